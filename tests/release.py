"""The files of a release in clean environments: each Python that is here, with a compiler and without.

    python tests/release.py DIST [PYTHON ...]    all interpreters from 3.10 to 3.14 that are found, or those named

Each environment takes the wheel for everyone with the newest torch, and nothing else; the oldest Python has one with
the oldest supported torch, too, and the newest one takes the extra `cli` last. Two more build the source distribution:
where no compiler is found, so that zig is fetched for the build, and where the compiler fails. In each, a step of both
optimizers is taken. The kernel must be there and step it; where none could be built, the warning must be seen and the
step be right. A bill of materials of the newest environment is written beside the files. Needs `uv` and
`cyclonedx-bom`, which `make release` installs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST_TORCH = "torch==2.10.*"
STEP = """
import sys, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import torch, tangential
    for cls in (tangential.AdamP, tangential.SGDP):
        w = torch.nn.Parameter(torch.ones(4, 3, 3, 3))
        w.grad = torch.arange(108.0).view(4, 3, 3, 3)
        twin = torch.nn.Parameter(w.detach().double())
        twin.grad = w.grad.double()
        optimizer = cls([w], lr=0.1)
        optimizer.step()
        cls([twin], lr=0.1, foreach=False).step()
        assert torch.allclose(w, twin.float(), atol=1e-5), (w, twin)
warned = any("CPU kernel" in str(x.message) for x in seen)
print(f"torch {torch.__version__}, {optimizer.backend}{', warned' if warned else ''}", flush=True)
"""
NET = """
from torch import nn
def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
"""


def interpreters() -> Iterator[str]:
    """The Pythons of this machine, one of each version."""
    for version in VERSIONS:
        names = (f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
        yield from [found for name in names if (found := shutil.which(name)) and works(found)][:1]


def works(python: str) -> bool:
    """Whether an interpreter starts: a shim may stand for one that is not installed."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def run(*command: str, **env: str) -> str:
    """The output of a command, in a folder where no checkout is found."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env={**clean, **env})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:300]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout.strip()


@contextmanager
def environment(python: str, torch: str = "torch") -> Iterator[str]:
    """The interpreter of a new environment that holds torch and what torch needs; uv keeps the files for the next."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        own = str(Path(folder, "bin", "python"))
        run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", own, torch)
        yield own


def stepped(own: str, what: Path, expected: str, **env: str) -> None:
    """Install a file of the release by pip, and take a step; what that says must end as expected."""
    run(own, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(what), **env)
    told = f"{what.name}: Python {run(own, '-V').split()[1]}, {run(own, '-c', STEP)}"
    sys.stdout.write(told + "\n")
    sys.stdout.flush()
    assert told.endswith(expected), f"must end in {expected!r}"


def check_contents(wheel: Path) -> None:
    """Both files of every platform's kernel are in the wheel, without symbols, and its page links nowhere within."""
    with zipfile.ZipFile(wheel) as files:
        kernels = [name for name in files.namelist() if "/kernels/lib/" in name]
        (page,) = (files.read(name).decode() for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        symbols = [name for name in kernels if name.endswith(".so") and b".symtab" in files.read(name)]
    assert len(kernels) == 6 and not symbols, (kernels, symbols)
    relative = re.findall(r"\]\((?!https?://)[^)]*\)", page)
    assert not relative, relative


def check_cli(own: str, wheel: Path) -> None:
    """With the extra `cli`, and no more than it asks for, a model is inspected and a folder of runs reported."""
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", own, f"tangential[cli] @ {wheel.as_uri()}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "net.py").write_text(NET)
        command = (own, "-m", "tangential")
        told = run(*command, "inspect", f"{folder}/net.py:net", "--batch", "4x3x8x8", COLUMNS="200")
        assert "0.weight" in told and "channel" in told, told
        write = f"from tangential.experiments.runs.folder import RunFolder as R; from pathlib import Path; {RUN}"
        run(own, "-c", write.format(folder=folder))
        run(*command, "report", f"{folder}/runs", "--out", f"{folder}/page")
        assert "sgdp" in Path(folder, "page", "report.html").read_text()
    sys.stdout.write("tangential[cli]: inspect and report work\n")


RUN = (
    "r = R(Path('{folder}/runs/one')); r.start(dict(recipe='digits', optimizer='sgdp', seed=0, epochs=1,"
    " compared=dict(sgdp=None), made_by=dict(arguments=dict(lr=0.1))), dict(command='', torch=''));"
    " r.append(dict(epoch=1, train_loss=1.0, test_accuracy=0.5))"
)


def main(folder: Path, pythons: list[str]) -> int:
    """Check all files; returns the exit code."""
    (wheel,), (source,) = folder.glob("*-py3-none-any.whl"), folder.glob("*.tar.gz")
    check_contents(wheel)
    pythons = pythons or list(interpreters())
    with environment(pythons[0], OLDEST_TORCH) as own:
        stepped(own, wheel, ", fused")
    for python in pythons:
        with environment(python) as own:
            stepped(own, wheel, ", fused")
            if python == pythons[-1]:
                bill = str(folder / "tangential.cdx.json")
                run(sys.executable, "-m", "cyclonedx_py", "environment", "-o", bill, own)
                with tempfile.TemporaryDirectory() as empty:
                    stepped(own, source, ", fused", PATH=empty)
                stepped(own, source, ", foreach, warned", CC="false")
                check_cli(own, wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
