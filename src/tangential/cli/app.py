"""The command line: from arguments to a command, from any failure to one line and an exit code.

0 done · 1 a run failed · 2 bad use or bad input · 130 interrupted, 143 terminated: the run can be resumed

What a command takes is the function of its name in `signatures`; what it does is the function of its name beside this
file, whose module is imported when the command runs: torch takes seconds that `--help` must not cost. For the list in
`--help` the first lines of the docstrings are read from the source.
"""

from __future__ import annotations

import ast
import inspect
import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tangential import __version__
from tangential.cli import terminal
from tangential.cli.options import command_line
from tangential.experiments.settings.suggestion import did_you_mean
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

_EXTRAS = {"ray": "ray", "submitit": "slurm"}
"""Extras that bring what not all recipes need."""

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer brings its own click or takes the one that is installed
_PLAIN: Any = {"pretty_exceptions_enable": False, "rich_markup_mode": None}


class _Commands(TyperGroup):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(add_completion=False, **_PLAIN)
        function = getattr(import_module(f"tangential.cli.signatures.{cmd_name}"), cmd_name)
        about, _, examples = inspect.cleandoc(function.__doc__).partition("\n\nExamples:\n")
        kept = f"\b\nExamples:\n{examples}" if examples else ""  # click leaves the lines of such a paragraph alone
        alone.command(cmd_name, help=about, epilog=kept)(function)
        return _with_metavars(get_command(alone), function)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(name)) for name in COMMANDS])


def _with_metavars(command: Any, function: Any) -> Any:
    """A command whose values are named as a person would, N and PATH, not by their Python types."""
    kinds = {int: "N", float: "X", Path: "PATH"}
    hints = get_type_hints(function)
    for each in command.params:
        if each.metavar is None and not getattr(each, "is_flag", False) and each.name in hints:
            inner = [kind for kind in (hints[each.name], *get_args(hints[each.name])) if kind is not type(None)]
            if any(get_origin(kind) is Literal for kind in inner):
                continue  # its choices are shown
            number = next((kinds[kind] for kind in inner if kind in kinds), "")
            each.metavar = number or each.name.upper().replace("_", "-")
    return command


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
            message = error.format_message().rstrip(".")
            return message if message.endswith("?") else f"{message}; see {_help_of(error)}", 2
        case ModuleNotFoundError() if not (error.name or "").startswith(
            "tangential"
        ):  # else this package is incomplete
            extra = _EXTRAS.get(error.name or "", "recipes")
            return f"{error.name} is not installed; run: pip install 'tangential[{extra}]'", 2
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


def _help_of(error: Any) -> str:
    """The command that shows what a command takes."""
    command = error.ctx.info_name if getattr(error, "ctx", None) is not None else None
    return f"tangential {command} --help" if command in COMMANDS else "tangential --help"


def _first_line(name: str) -> str:
    """The first line of a command's docstring, without importing its module."""
    spec = find_spec(f"tangential.cli.signatures.{name}")
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
