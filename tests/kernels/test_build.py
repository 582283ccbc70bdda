"""The kernel compiles anywhere to vector code, and its absence costs speed only."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.kernel_sources import only_float
from tangential.kernels import build, plan

pytestmark = pytest.mark.slow

COMPILER = build.compiler()
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "FOLDER", tmp_path / "lib")
    return tmp_path / "lib"


def functions(source):
    """The assembly of every function of the kernel, as the compiler writes it for the file that most machines load."""
    fast = ["-march=x86-64-v3"] if build.AVX2 in build.variants(build.host()) else []
    command = [*COMPILER, *build.FLAGS, *fast, "-fPIC", "-S", str(source), "-o", "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^_?([a-z]\w+(?:\.\w+)*):", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def scalar_loops(source, pairs=7):
    """The loops over elements that multiply one number at a time. Lanes are added up outside a loop too, so additions
    would prove nothing."""
    named = re.findall(
        r"(?:^LOOP NAME|^ROWS|^TURNS|^DOTS|^AGAIN)\((\w+)", (source.parent / "loops.inc").read_text(), re.MULTILINE
    )
    wanted = [name for name in named if not name.startswith("few") and name != "WHAT"]
    assert len(wanted) == 16
    vector = r"\bv?(?:mul|fn?m(?:add|sub)\d*)ps\b.*%[xy]mm|\bfml?[aus]l?\b.*\.4s"
    found = {name: code for name, code in functions(source).items() if name.startswith(tuple(f"{x}_" for x in wanted))}
    assert len(found) >= 2 * pairs * (len(wanted) - 1)  # two loops are Adam's alone
    return [name for name, code in found.items() if not re.search(vector, code)]


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="reads the assembly of gcc or clang")
def test_every_loop_over_elements_is_vectorised():
    assert scalar_loops(build.SOURCES / "step.c") == []


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="reads the assembly of gcc or clang")
def test_a_loop_that_is_not_vectorised_would_be_seen(tmp_path):
    copy = shutil.copytree(build.SOURCES, tmp_path / "c")
    loops = copy / "loops.inc"
    spoilt = loops.read_text().replace("    us[i] = u;\n", "    us[i] = u + *(const volatile float *)us;\n")
    assert spoilt != loops.read_text()
    loops.write_text(spoilt)
    only_float(copy)
    found = scalar_loops(copy / "step.c", pairs=1)
    assert sorted(found) == ["moments_adam_f32_f32", "moments_sgd_f32_f32"]


@needs_compiler
def test_building_makes_the_files_and_removes_older_ones(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-O0"])  # most of the time is speed's
    monkeypatch.setattr(build, "SOURCES", shutil.copytree(build.SOURCES, tmp_path / "c"))
    only_float(build.SOURCES)
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
