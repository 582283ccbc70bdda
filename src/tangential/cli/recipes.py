"""The command `recipes`: names and descriptions, read from a file, because building the recipes loads torch.

The file is generated; after a change of a recipe's name or description write it anew, a test compares it:

    python -m tangential.cli.recipes > src/tangential/cli/recipes.json
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.text import Text

from tangential.cli.terminal import console

LISTING = Path(__file__).with_suffix(".json")


def recipes() -> None:
    """List the recipes."""
    listing: dict[str, str] = json.loads(LISTING.read_text("utf-8"))
    width = max(map(len, listing))
    terminal = console()
    for name, about in listing.items():
        terminal.print(Text.assemble((f"{name:<{width}}  ", "bold"), about), soft_wrap=True)


def generated() -> str:
    """The contents of the file, from the recipes themselves."""
    from tangential.experiments.recipes import RECIPES

    return json.dumps({name: recipe.about for name, recipe in RECIPES.items()}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    console(soft_wrap=True).print(generated(), end="")
