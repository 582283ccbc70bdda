"""The files of a release in clean environments: each Python that is here, with a compiler and without.

    python tests/release.py DIST [PYTHON ...]    all interpreters from 3.10 to 3.14 that are found, or those named

Each environment takes the wheel for everyone with the newest torch, and nothing else; the oldest Python has one with
the oldest supported torch, too. One more builds the source distribution where no compiler is found. In each, a step of
both optimizers is taken. The kernel must be there and step it; where none could be built, the warning must be seen and
the step be right. Last, a bill of materials is written beside the files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
print(optimizer.backend, "warned" if any("CPU kernel" in str(x.message) for x in seen) else "", flush=True)
"""


def interpreters() -> Iterator[str]:
    """The Pythons of this machine."""
    for version in VERSIONS:
        names = (f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
        yield from [found for name in names if (found := shutil.which(name)) and works(found)][:1]


def works(python: str) -> bool:
    """Whether an interpreter starts: a shim may stand for one that is not installed."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def check(python: str, what: str, torch: str = "torch", path: str | None = None) -> str:
    """Install a file of the release into a new environment, and take a step there; returns the backend."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        subprocess.run([python, "-m", "venv", folder], check=True)
        own = str(Path(folder, "bin", "python"))
        subprocess.run([own, "-m", "pip", "install", "--quiet", torch, "numpy"], check=True, env=environment)
        if path is not None:
            environment["PATH"] = path
        subprocess.run([own, "-m", "pip", "install", "--quiet", "--no-deps", what], check=True, env=environment)
        done = subprocess.run([own, "-c", STEP], check=True, capture_output=True, text=True, cwd=folder)
        return done.stdout.strip()


def main(folder: Path, pythons: list[str]) -> int:
    """Check all files; returns the exit code."""
    (wheel,), (source,) = folder.glob("*-py3-none-any.whl"), folder.glob("*.tar.gz")
    pythons = pythons or list(interpreters())
    for python in pythons:
        for torch in ("torch", OLDEST_TORCH) if python == pythons[0] else ("torch",):
            found = check(python, str(wheel), torch)
            sys.stdout.write(f"{python}, {torch}: {found}\n")
            assert found == "fused", found
    with tempfile.TemporaryDirectory() as empty:
        found = check(pythons[-1], str(source), path=empty)
    sys.stdout.write(f"{pythons[-1]}, sdist, no compiler: {found}\n")
    assert found in ("fused", "foreach warned"), found  # zig, fetched for the build, is a compiler too
    bill = folder / "tangential.cdx.json"
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", "-o", str(bill), "constraints.txt"], check=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
