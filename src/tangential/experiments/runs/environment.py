"""Environment of a run, as JSON's own types: versions, machine, command, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def environment(*, command: str, threads: int) -> dict[str, Any]:
    """Versions, machine and command: what a result may depend on besides its settings.

    Args:
        command: The command line, as the user would type it again.
        threads: How many threads the tensor library may use.

    Returns:
        Versions, platform, number of CPUs, the git commit of the current folder if it has one, and the arguments.

    Examples:
        >>> environment(command="tangential train digits", threads=1)["command"]
        'tangential train digits'
    """
    return {
        "command": command,
        "tangential": _version("tangential"),
        "torch": _version("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
