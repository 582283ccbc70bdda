"""Build of the C kernel: names of its library files, compilers, flags and targets.

    python -m tangential.kernels          for this machine, with the C compiler at hand
    python -m tangential.kernels --all    for every platform of `TARGETS`, with the package `ziglang`

Installing from source runs the first of these, through `hatch_build.py`, so a checkout or a source distribution has a
kernel wherever there is a compiler (`CC`, `cc`, `gcc`, `clang`) or `ziglang` can be fetched for the time of the build.
Where neither works the package installs all the same, and steps in plain torch. The wheel for everyone is built with
`TANGENTIAL_KERNELS=all` and carries all files: they know nothing of Python or torch, so it is one wheel without a
platform, and who installs it needs no compiler.

A file's name ends in a digest of the sources, so that one which does not belong to them is never loaded. This module
imports the standard library only: the build runs it before the package can be imported.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "c"
FOLDER = HERE / "lib"

TARGETS = {
    "linux-x86_64": "x86_64-linux-gnu.2.17",
    "linux-aarch64": "aarch64-linux-gnu.2.17",
    "darwin-arm64": "aarch64-macos",
    "win32-amd64": "x86_64-windows-gnu",
}
"""Platforms that a kernel is built for, and what zig calls them."""

AVX2 = "avx2"
FLAGS = (
    *("-std=c99", "-O3", "-shared", "-fvisibility=hidden", "-fopenmp-simd"),
    *("-fno-math-errno", "-fno-trapping-math"),  # no more of -ffast-math: NaN and infinity keep their meaning
    "-ffp-contract=fast",  # which -std=c99 turns off
)


def host() -> str:
    """The platform we are on, as `TARGETS` would call it."""
    return f"{sys.platform}-{platform.machine().lower()}"


def variants(target: str) -> tuple[str, ...]:
    """The files of a platform: on x86-64 one for every processor, and a faster one for those of the last decade."""
    return ("", AVX2) if target.endswith(("x86_64", "amd64")) else ("",)


@lru_cache(maxsize=1)
def digest() -> str:
    """A name for the present sources and flags."""
    found = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h", ".inc")):
        found.update(path.read_bytes())
    return found.hexdigest()[:10]


def library(target: str, variant: str) -> Path:
    """Where the file of a platform is."""
    suffix = {"darwin": "dylib", "win32": "dll"}.get(target.split("-")[0], "so")
    return FOLDER / f"{'-'.join(filter(None, (target, variant)))}-{digest()}.{suffix}"


def compiler() -> list[str] | None:
    """The command of the C compiler at hand: `CC` if it is set, else a system's, else zig's."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return zig() if importlib.util.find_spec("ziglang") else None


def zig() -> list[str]:
    """The command of zig's C compiler, which builds for any platform."""
    return [sys.executable, "-m", "ziglang", "cc"]


def build(target: str, command: list[str], strip: bool = False) -> list[Path]:
    """Compile the files of a platform; returns them.

    Args:
        target: One of `TARGETS`.
        command: The compiler.
        strip: Whether to leave out the names of what is inside, which tests and debuggers read.

    Raises:
        OSError: The compiler cannot be run.
        subprocess.CalledProcessError: The compiler failed.
    """
    FOLDER.mkdir(exist_ok=True)
    crossing = "ziglang" in command
    made = []
    for variant in variants(target):
        flags = [*FLAGS] if target.startswith("win32") else [*FLAGS, "-fPIC"]
        if variant == AVX2:
            flags.append("-mcpu=x86_64_v3" if crossing else "-march=x86-64-v3")
        if crossing:
            flags += ["-target", TARGETS[target]]
        if strip and (crossing or not target.startswith("darwin")):  # whose own linker knows no such flag
            flags.append("-s")
        path = library(target, variant)
        unfinished = path.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, *flags, str(SOURCES / "step.c"), "-o", str(unfinished)], check=True)
        unfinished.replace(path)
        made.append(path)
    return made


def build_all(targets: Iterable[str], command: list[str], strip: bool = False) -> list[Path]:
    """Compile the files of platforms, and remove those of older sources."""
    made = [path for target in targets for path in build(target, command, strip)]
    for path in FOLDER.iterdir():
        if digest() not in path.name:
            path.unlink(missing_ok=True)  # another process may clean up too
    return made


def main() -> int:
    """Compile as the arguments ask; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tangential.kernels", description="Compile the kernel.")
    parser.add_argument("--all", action="store_true", help="for every platform, with the package ziglang")
    wanted = parser.parse_args()
    command = zig() if wanted.all else compiler()
    if command is None:
        sys.stderr.write("no C compiler found: install one, set CC, or pip install ziglang\n")
        return 1
    made = build_all(TARGETS if wanted.all else [host()], command)
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0
