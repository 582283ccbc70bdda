"""Engines: where the workers of a command run, as processes of this machine, on a Ray cluster or through SLURM.

A worker is the same command with `--worker`. What is to be done and what is done stands in run folders and, of a sweep,
in a database; locks and heartbeats decide who does what. So an engine only has to start processes and to say how they
ended. Each is a function `submit(worker, count, resources)` that returns a `Handle` for every worker, in a module that
imports its library when it is called.
"""

from typing import Literal

Engine = Literal["local", "ray", "slurm"]
"""Where workers run: on this machine, on a Ray cluster, through SLURM."""

__all__ = ["Engine"]
