"""The commands that ask: which weights of a model are invariant, whether the theory holds, what the toys do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tangential.experiments.runs.folder import make_folder, replace_text
from tangential.experiments.viewers.cosine_test import Dispute, disputes
from tangential.experiments.viewers.inspection_page import save as save_inspection
from tangential.experiments.viewers.model_spec import FORMS, load, parse_settings, parse_shape
from tangential.invariances import find_invariances
from tangential.paper import theory as statements
from tangential.paper.theory import table as theory_table
from tangential.paper.toys import CIRCLE, SPHERE, animation, run_all
from tangential.paper.toys import optimizers as contestants
from tangential.paper.toys import table as toy_table

THREADS = 1  # these nets are too small to share; and with one thread the bits do not depend on the number of cores

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def inspect(
    model: Annotated[str, typer.Argument(help=FORMS)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Arguments of the model: num_classes=10")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Shape of the example batch: 8x3x224x224, or 2x24 tokens.")] = None,
    against_cosine: Annotated[
        int, typer.Option(metavar="STEPS", min=0, help="Train so many steps and show where the paper's test disagrees.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the JSON file and the page.")] = Path("inspected"),
    debug: Debug = False,
) -> None:
    """Show which weights of a model are scale-invariant, from the model itself."""
    shape = parse_shape(batch) if batch else None
    torch.manual_seed(0)
    subject = load(model, parse_settings(settings or []), shape)
    make_folder(out)
    found = find_invariances(subject.model, *subject.args, **subject.kwargs)
    console = Console()
    console.print(found)
    contested = disputes(subject, found, against_cosine) if against_cosine else []
    if contested:
        _print_disputes(console, contested, against_cosine)
    answer, page_file = out / "invariances.json", out / "invariances.html"
    replace_text(answer, found.to_json())
    save_inspection(page_file, model, found, contested, against_cosine)
    for path in (answer, page_file):
        console.print(Text(str(path), overflow="fold"), soft_wrap=True)


def _print_disputes(console: Console, contested: list[Dispute], steps: int) -> None:
    wrong = [each for each in contested if each.wrong]
    agreed = len(contested) - len(wrong)
    console.print(
        f"Over {steps} steps the paper's test agrees on {agreed} of {len(contested)} weights.", highlight=False
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, heading in enumerate(("weight", "fact", "channel", "layer", "neither", "flips")):
        table.add_column(heading, justify="right" if number > 1 else "left", overflow="fold")
    for each in wrong:
        counts = (each.channel, each.layer, each.neither, each.flips)
        table.add_row(Text(each.name), Text(each.fact), *map(str, counts))
    if wrong:
        console.print(table)


def theory(debug: Debug = False) -> None:
    """Evaluate every statement of the theory on real losses; exit with 1 if one fails."""
    torch.set_num_threads(THREADS)
    console = Console()
    found: list[statements.Check] = []
    for check in statements.checks():
        for line in theory_table.lines(check, after=found[-1] if found else None):
            console.print(Text(line), soft_wrap=True)
        found.append(check)
    console.print(Text(theory_table.summary(found)), soft_wrap=True)
    if not all(check.holds for check in found):
        raise typer.Exit(1)


def toy(
    which: Annotated[Literal["2d", "3d"], typer.Argument(help="The plane or the sphere.")],
    momentum: Annotated[float, typer.Option(help="Momentum of the 2-D toy.")] = 0.9,
    optimizer: Annotated[
        list[str] | None, typer.Option(help="One more to run, as in 'torch.optim.AdamW(lr=0.01)'; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures and the animation.")] = Path("runs/toys"),
    debug: Debug = False,
) -> None:
    """Run the paper's optimizers, and any other, on one of its toys: a table, pictures, an animation."""
    torch.set_num_threads(THREADS)
    flat = which == "2d"
    chosen = contestants.on_circle(momentum) if flat else contestants.on_sphere()
    chosen |= {text: contestants.named(text) for text in optimizer or []}
    make_folder(out)
    trails = run_all(CIRCLE if flat else SPHERE, chosen)
    console = Console()
    for line in toy_table.circle_lines(trails, beta=momentum) if flat else toy_table.sphere_lines(trails):
        console.print(Text(line), soft_wrap=True)
    for path in animation.save_all(trails, out):
        console.print(Text(str(path), overflow="fold"), soft_wrap=True)
