"""The kernel's tests under the address and undefined-behaviour sanitizers: any report ends the run.

    python tests/sanitize.py [ARGUMENT ...]    all of them, or what pytest makes of the arguments

Needs gcc or clang with its sanitizer libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FLAGS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
COMPILER = os.environ.get("CC", "gcc")


def restart_with_sanitizer() -> int:
    """Run this file again in a process that loads the sanitizer before anything else, and C++ for its exceptions."""
    asked = [[COMPILER, f"-print-file-name={name}"] for name in ("libasan.so", "libstdc++.so.6")]
    found = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for command in asked]
    settings = dict(LD_PRELOAD=" ".join(found), ASAN_OPTIONS="detect_leaks=0", PYTHONMALLOC="malloc")
    return subprocess.run(
        [sys.executable, __file__, *sys.argv[1:]], env={**os.environ, **settings}, check=False
    ).returncode


def main() -> int:
    """Build the kernel with the sanitizers, put it in the place of the other, and run the tests that use it."""
    if "ASAN_OPTIONS" not in os.environ:
        return restart_with_sanitizer()
    from tangential.kernels import build, cpu

    with tempfile.TemporaryDirectory() as folder:
        build.FOLDER = Path(folder)
        build.FLAGS = (*build.FLAGS, *FLAGS)
        build.build_all([build.host()], [COMPILER])
        assert cpu.library() is not None
        if sys.argv[1:]:
            return pytest.main(["-q", "-p", "no:xdist", *sys.argv[1:]])
        # without `scales`: its bounds are those of sums in lanes, which this build adds one by one
        names = ("cpu", "guesses", "values", "lists", "fuzz")
        kernel = [str(TESTS / "kernels" / f"test_{name}.py") for name in names]
        others = [str(TESTS / "backends"), str(TESTS / "optimizers" / "test_state_fuzz.py")]
        return pytest.main(["-q", "-p", "no:xdist", "-k", "kernels or fused or tensors or mutated", *kernel, *others])


if __name__ == "__main__":
    sys.exit(main())
