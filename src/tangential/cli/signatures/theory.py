"""Arguments of the command `theory`."""

from __future__ import annotations

from tangential.cli.options import Debug


def theory(debug: Debug = False) -> None:
    """Evaluate every statement of the theory on real losses; exit with 1 if one fails.

    Examples:
      tangential theory
    """
    from tangential.cli import theory as command

    command.theory()
