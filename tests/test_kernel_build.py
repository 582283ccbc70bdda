"""The kernel compiles anywhere to vector code, and its absence costs speed only."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tangential.kernels import build, plan

COMPILER = build.compiler()
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "FOLDER", tmp_path / "lib")
    return tmp_path / "lib"


def report_flags(command):
    """What makes this compiler tell of every loop that it vectorised."""
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    return ["-Rpass=loop-vectorize"] if "clang" in version else ["-fopt-info-vec"]


def expected_loops():
    """`(function, lines, how often)` of the vector loops of loops.inc, for four pairs of dtypes and two rules.

    Compilers count a loop to its head or to its first statement, and fold functions that come out the same.
    """
    lines = (build.SOURCES / "loops.inc").read_text().splitlines()
    name = ""
    for at, line in enumerate(lines, start=1):
        made = re.match(r"(ROWS|DOTS|AGAIN)\((\w+)", line)
        name = made[2] if made else (re.match(r"LOOP NAME\((\w+)", line) or [name, name])[1]
        if made and not name.startswith("few"):
            yield name, (at,), 4 if "held" in name else 3 if "dots" in name else 8
        if line.strip() == "SIMD":
            yield name, (at + 1, at + 2), 3 if name in ("move", "dots_across") else 8


def vectorised(source):
    """How often each line of loops.inc was vectorised; gcc also tells of the narrower loops that finish a row."""
    command = [*COMPILER, *build.FLAGS, *report_flags(COMPILER), "-fPIC", str(source), "-o", "/dev/null"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.findall(r"loops\.inc:(\d+):\d+: .*(?:vectorized loop|loop vectorized(?: using (\d+) byte)?)", told)
    widest = max((int(width) for _, width in found if width), default=0)
    return Counter(int(line) for line, width in found if not width or int(width) == widest)


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="reads a report of gcc or clang")
def test_every_loop_over_elements_is_vectorised():
    found = vectorised(build.SOURCES / "step.c")
    seen = [(name, sum(found[line] for line in lines), least) for name, lines, least in expected_loops()]
    assert len(seen) == 14
    assert not [loop for loop in seen if loop[1] < loop[2]], f"loops.inc: (loop, vectorised, of): {seen}"


@needs_compiler
def test_a_loop_that_is_not_vectorised_would_be_seen(tmp_path):
    copy = shutil.copytree(build.SOURCES, tmp_path / "c")
    loops = copy / "loops.inc"
    spoilt = loops.read_text().replace("    us[i] = u;\n", "    us[i] = u + *(const volatile float *)us;\n")
    assert spoilt != loops.read_text()
    loops.write_text(spoilt)
    found = vectorised(copy / "step.c")
    assert not sum(found[line] for name, lines, _ in expected_loops() for line in lines if name == "moments")


@needs_compiler
def test_building_makes_the_files_and_removes_older_ones(elsewhere):
    elsewhere.mkdir()
    (elsewhere / "linux-x86_64-0123456789.so").touch()
    made = build.build_all([build.host()], COMPILER)
    assert sorted(made) == sorted(elsewhere.iterdir())
    assert len(made) == len(build.variants(build.host()))


def test_a_compiler_that_fails_leaves_nothing_behind(elsewhere, monkeypatch):
    monkeypatch.setenv("CC", "/bin/false")
    with pytest.raises(subprocess.CalledProcessError):
        build.build_all([build.host()], build.compiler())
    assert not list(elsewhere.iterdir())


def test_the_compiler_that_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setenv("CC", "ccache gcc -m64")
    assert build.compiler() == ["ccache", "gcc", "-m64"]
    monkeypatch.delenv("CC")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert build.compiler() is None


def test_changed_sources_ask_for_another_file(monkeypatch, tmp_path):
    before = build.library("linux-x86_64", "avx2")
    copy = shutil.copytree(build.SOURCES, tmp_path / "c")
    (copy / "step.c").write_text("/* changed */")
    monkeypatch.setattr(build, "SOURCES", copy)
    build.digest.cache_clear()
    try:
        assert build.library("linux-x86_64", "avx2") != before
    finally:
        build.digest.cache_clear()


def test_numbers_that_both_languages_know_are_the_same():
    step, table = ((build.SOURCES / name).read_text() for name in ("step.c", "table.h"))
    assert re.search(r"#define LONG (\d+)", step)[1] == str(plan.SLICE)
    fields = re.search(r"typedef struct \{([^}]*)\} run;", table)[1]
    fields = re.sub(r"/\*.*?\*/|int64_t", "", fields, flags=re.DOTALL)
    assert re.findall(r"\w+", fields) == list(plan.Run.__dataclass_fields__)


def test_sources_stay_small():
    for path in build.SOURCES.iterdir():
        lines = path.read_text().splitlines()
        assert len(lines) <= 300 and max(map(len, lines)) <= 120, path.name
    assert not Path(build.SOURCES / "a.out").exists()
