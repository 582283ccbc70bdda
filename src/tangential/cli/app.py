"""The command line: from arguments to a command, from any failure to one line and an exit code.

0 done · 1 a run failed · 2 bad use or bad input · 130 interrupted, 143 terminated: the run can be resumed

A command is a function in the module of its name, which is imported when the command runs: torch takes seconds that
`--help` must not cost. For the list in `--help` the first lines of the functions' docstrings are read from the source.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from types import FrameType, ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tangential import __version__
from tangential.cli import terminal
from tangential.cli.options import command_line
from tangential.experiments.training.signals import Stopped

COMMANDS = (
    "train",
    "recipes",
    "report",
    "doctor",
    "compare",
    "comparisons",
    "inspect",
    "sweep",
    "theory",
    "toy",
    "predict",
    "neighbours",
    "attack",
)

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer brings its own click or takes the one that is installed
_PLAIN: Any = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


class _Commands(TyperGroup):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(**_PLAIN)
        alone.command(cmd_name)(getattr(_module(cmd_name), cmd_name))
        return get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(name)) for name in COMMANDS])


app = typer.Typer(
    cls=_Commands,
    help="Train on scale-invariant weights with SGDP and AdamP, beside the optimizers they project.",
    **_PLAIN,
)


def run() -> None:
    """Run the command line and exit with its code."""
    _open_streams()
    signal.signal(signal.SIGTERM, _terminate)
    rank = os.environ.get("RANK", "0")
    program = "tangential" if rank == "0" else f"tangential (process {rank})"
    with terminal.notices(program):
        try:
            code = app(standalone_mode=False)
        except (Exception, Stopped) as error:
            message, code = _explained(error)
            terminal.print_error(f"{program}: {message}", error=error if "--debug" in sys.argv else None)
    raise SystemExit(code or 0)


def _open_streams() -> None:
    """Standard output and error that take any text: a terminal without arrows shows "?", a closed stream nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
        else:
            stream.reconfigure(errors="replace")


def _explained(error: BaseException) -> tuple[str, int]:
    """The line for an error, and the exit code."""
    match error:
        case Stopped():
            resume = f"; to resume: {command_line()}" if sys.argv[1:2] in (["train"], ["sweep"], ["compare"]) else ""
            return f"{error}{resume}", error.code
        case typer.Abort():
            return "interrupted", 130
        case _UsageError():
            return f"{error.format_message().rstrip('.')}; see tangential --help", 2
        case OSError():
            return f"{error.filename or 'input or output'}: {error.strerror or error}", 2
        case ValueError():
            return str(error), 2
        case FloatingPointError():
            return str(error), 1
        case _:
            return f"{type(error).__name__}: {error}; run again with --debug to see where", 1


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(signum)


def _module(name: str) -> ModuleType:
    """The module of a command; ValueError if a library is missing."""
    try:
        return import_module(f"tangential.cli.{name}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("tangential"):
            raise  # not the user's environment, but this package is incomplete
        raise ValueError(f"{missing.name} is not installed; run: pip install 'tangential[recipes]'") from missing


def _first_line(name: str) -> str:
    """The first line of a command's docstring, without importing its module."""
    spec = find_spec(f"tangential.cli.{name}")
    source = spec.loader.get_source(spec.name) if spec and spec.loader else None  # type: ignore[attr-defined]
    tree = ast.parse(source or "")
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return " ".join((ast.get_docstring(each) or "").partition("\n\n")[0] for each in found)


def _print_version(wanted: bool) -> None:
    if wanted:
        terminal.print_line(terminal.console(), f"tangential {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        terminal.console().print(context.get_help())
