"""Installing from source, with a C compiler and without one: what is promised holds in a fresh environment."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import tangential
from support.kernel_sources import only_float
from support.paths import ROOT
from tangential.kernels import build

pytestmark = pytest.mark.slow

BACKEND = [
    pytest.importorskip(name, reason="builds the package; offline it must be here")
    for name in ("hatchling", "editables", "hatch_fancy_pypi_readme")
]
SOURCES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C compiler here")

USE = """
import json, warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import tangential
    from tangential.kernels import build, cpu

    def stepped(**how):
        torch.manual_seed(0)
        w = torch.randn(64, 300, requires_grad=True)
        optimizer = tangential.AdamP([w], lr=1e-2, weight_decay=0.1, **how)
        before = len(caught)
        for _ in range(5):
            w.grad = torch.randn_like(w)
            optimizer.step()
        return w.detach(), optimizer.backend, [str(x.message) for x in caught[before:]]

    ready = len(caught)
    first, backend, told = stepped()
    again, _, told_again = stepped()
    definition = stepped(foreach=False)[0]
print(json.dumps(dict(
    home=tangential.__file__,
    files=[x.name for x in build.FOLDER.glob("*") if x.suffix in (".so", ".dylib", ".dll")],
    backend=backend,
    ready=ready,
    told=told,
    told_again=told_again,
    gap=float((first - definition).abs().max()),
    same=bool(torch.equal(first, again)),
)))
"""


def run(*command, **env):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path):
    """Installs a copy of the sources into a new environment, which borrows the libraries of this one; uses it."""
    return installer(tmp_path)


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory):
    """What a use found after a regular installation without a compiler."""
    return installer(tmp_path_factory.mktemp("without"))(CC="/bin/false")


def installer(folder):
    copy, home = folder / "sources", folder / "env"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("lib", "__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    venv.create(home)
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    borrowed = [*site.getsitepackages(), *(str(Path(module.__file__).parent.parent) for module in BACKEND)]
    (Path(own) / "borrowed.pth").write_text("\n".join(borrowed))

    def install(*how, **env):
        offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
        clean = dict(PYTHONPATH="", OMP_NUM_THREADS="1", **env)
        run(sys.executable, "-m", "pip", "--python", python, "install", *offline, *how, copy, **clean)
        return json.loads(run(python, "-c", USE, **clean)) | dict(place=copy if how else home)

    return install


def from_there(found):
    return Path(found["home"]).resolve().is_relative_to(Path(found["place"]).resolve())


@pytest.mark.parametrize("how", ["regular", "editable"])
def test_without_a_compiler_it_installs_warns_once_and_steps_as_well(how, request):
    regular = how == "regular"
    found = request.getfixturevalue("without_compiler" if regular else "installed")
    found = found if regular else found("--editable", CC="/bin/false")
    assert from_there(found)
    assert found["files"] == [] and found["backend"] == "foreach"
    assert found["ready"] == 0 and found["told_again"] == []
    assert [text.split(":")[0] for text in found["told"]] == ["steps run in plain torch, without the CPU kernel"]
    assert found["gap"] < 1e-6 and found["same"]


@needs_compiler
def test_with_a_compiler_the_kernel_is_built_shipped_and_used(installed, tmp_path):
    quick = tmp_path / "cc"  # the last option holds; that of speed takes most of the time
    quick.write_text(f'#!/bin/sh\nexec {" ".join(build.compiler())} "$@" -O0\n')
    quick.chmod(0o755)
    only_float(tmp_path / "sources" / "src" / "tangential" / "kernels" / "c")
    found = installed(CC=str(quick))
    assert from_there(found)
    assert len(found["files"]) == len(build.variants(build.host())) and found["backend"] == "fused"
    assert found["ready"] == 0 and found["told"] == found["told_again"] == []
    assert found["gap"] < 1e-6 and found["same"]


def contents(package):
    """Every file of a package, but what is made when it is built, imported or run."""
    made = {"lib", "__pycache__"}
    found = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not made & set(path.parts)}


def test_installed_package_holds_every_file_of_the_sources(without_compiler):
    found = without_compiler
    package = Path(found["home"]).parent
    there = contents(package)
    assert there == contents(ROOT / "src" / "tangential")
    needed = {
        "cli/recipes.json",
        "experiments/report/static/page.css",
        "experiments/report/static/plotly-basic.min.js",
        "experiments/templates/base.html",
        "kernels/c/step.c",
        "py.typed",
    }
    assert needed <= there, "and those that are no Python are among them"
    page = "from tangential.experiments.report import page, comparison; page.render(comparison.Comparison((), 0))"
    python = found["place"] / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    for command in (("-m", "tangential", "recipes"), ("-c", page)):
        run(python, *command, PYTHONPATH="")


def test_the_citation_names_this_version():
    written = next(line for line in (ROOT / "CITATION.cff").read_text().splitlines() if line.startswith("version:"))
    assert written.split()[1] == tangential.__version__
