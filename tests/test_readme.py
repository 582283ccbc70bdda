"""The README from top to bottom, in a fresh clone and a fresh shell: no line fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)

CHEAPER = {
    "make demo": "tangential train digits --smoke --out runs/digits",
    "tangential train digits --seeds 5": "tangential train digits --seeds 2 --smoke",
    "tangential sweep digits 'optimizers.*.lr=1e-3..1' --trials 20": (
        "tangential sweep digits 'optimizers.*.lr=1e-3..1' --trials 1 --smoke"
    ),
}
"""Lines that take minutes or gigabytes, and the same code on less; `make demo` is checked by what it would run."""


RECORD = r"""tangential() { printf '%s\037' "$@" >>commands; echo >>commands; }"""
"""A shell function in the place of the program: each would load torch anew, which takes longer than what it does."""

RUN = """
import os, sys
from tangential.__main__ import main
for line in open("commands").read().splitlines():
    sys.argv = ["tangential", *line.split("\\037")[:-1]]
    print(sys.argv, flush=True)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
"""What was recorded, one after the other, in one fresh process; the first that fails ends it."""


def script():
    """All blocks as one shell script: the shell's, then all of Python, then what `tangential` was called with."""
    shell = "".join(text for language, text in BLOCKS if language == "sh")
    python = "".join(text for language, text in BLOCKS if language == "python")
    programs = [f"python - <<'END'\n{text}END" for text in (python, RUN)]
    return "\n".join(["set -eu", RECORD, shell, *programs])


def cheaper(text):
    for line, instead in CHEAPER.items():
        assert text.count(line) == 1, line
        text = text.replace(line, instead)
    return text


@pytest.fixture
def clone(tmp_path):
    """The project as git has it, with the environment that runs this test as its `.venv`."""
    if not (Path(sys.prefix) / "bin" / "activate").exists() or not (ROOT / ".git").exists():
        pytest.skip("needs a virtual environment and a git checkout")
    there = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.splitlines()):
        if (ROOT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, there / name)
    (there / ".venv").symlink_to(sys.prefix)
    return there


@pytest.mark.slow
def test_every_block_runs_in_order_in_a_fresh_shell(clone):
    fresh = {key: os.environ[key] for key in ("HOME", "TANGENTIAL_DATA") if key in os.environ}
    fresh |= {"PATH": f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin", "PYTHONPATH": f"{clone / 'src'}"}
    done = subprocess.run(["sh", "-c", cheaper(script())], cwd=clone, env=fresh, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (clone / "runs" / "digits" / "report.html").exists()
    commands = re.findall(r"^(?:tangential|make demo)\b", README, re.MULTILINE)
    assert len((clone / "commands").read_text().splitlines()) == len(commands) > 6


def test_a_line_that_fails_would_be_seen(tmp_path):
    done = subprocess.run(["sh", "-c", script().partition("\n")[0] + "\nfalse\ntrue"], cwd=tmp_path, check=False)
    assert done.returncode != 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright", path=Path(sys.prefix) / "bin") is None, reason="pyright is not installed")
def test_the_python_passes_the_type_checker(tmp_path):
    (tmp_path / "readme.py").write_text("".join(text for language, text in BLOCKS if language == "python"))
    command = [Path(sys.prefix) / "bin" / "pyright", "--pythonpath", sys.executable, "readme.py"]
    own = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stdout


def test_the_demo_trains_what_the_readme_shows_and_ends_with_the_next_command():
    # not as a part of the `make` that may run the tests: it would print the folders it enters
    alone = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    plan = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True, env=alone
    ).stdout
    assert "tangential train digits --seeds 5 --out runs/digits" in plan
    assert ". .venv/bin/activate" in plan.splitlines()[-1]


def test_the_first_screen_has_a_picture_code_and_the_verdicts():
    screen = README[: README.index("## Install")]
    assert screen.count("![") == 1 and screen.count("```python") == 1 and "| verdict |" in screen
    assert len(screen.splitlines()) <= 30
