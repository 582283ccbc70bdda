"""Who is compared with whom: a recipe's pairs, and variants of a projected optimizer that say what its gain is due to.

A projected optimizer differs from its baseline in two ways: it projects, and what it projects decays by a tenth. Tuned
variants that differ in one setting keep the two apart: `wd_ratio=1` projects with full decay, `blocks=none` projects
nothing, `blocks=detected` projects what the analysis of the model finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.settings.overrides import override


@dataclass(frozen=True)
class Pair:
    """One comparison: the difference is the contender's score minus the reference's."""

    reference: str
    contender: str

    def __str__(self) -> str:
        return f"{self.contender} against {self.reference}"


@dataclass(frozen=True)
class Contest:
    """All optimizers that are tuned and retrained, and the pairs that are judged.

    Args:
        recipe: The recipe with these optimizers alone, variants included.
        pairs: In the order in which they are shown.
        families: Optimizers that share a search space: a baseline, what is compared with it, and variants.
    """

    recipe: Recipe
    pairs: tuple[Pair, ...]
    families: tuple[tuple[str, ...], ...]

    @property
    def optimizers(self) -> tuple[str, ...]:
        """Names of all of them."""
        return tuple(self.recipe.optimizers)


def contest(recipe: Recipe, *, only: Sequence[str] = (), against: Sequence[str] = ()) -> Contest:
    """Contest of a recipe's projected optimizers with their baselines and with variants of themselves.

    Args:
        recipe: The recipe.
        only: Projected optimizers to compare; empty for all.
        against: Variants, each `SETTING=VALUE` of the projected optimizers; several settings with commas between.

    Raises:
        ValueError: No such projected optimizer, or a setting that is refused.

    Examples:
        >>> from tangential.experiments.recipes import digits
        >>> found = contest(digits, only=["adamp"], against=["wd_ratio=1"])
        >>> found.optimizers, [str(pair) for pair in found.pairs]
        (('adamw', 'adamp', 'adamp-wd_ratio-1'), ['adamp against adamw', 'adamp against adamp-wd_ratio-1'])
    """
    unknown = [name for name in only if name not in recipe.baselines]
    if unknown or not recipe.baselines:
        known = ", ".join(recipe.baselines) or "none"
        raise ValueError(f"{recipe.name} has no projected optimizer {' '.join(unknown[:1])}; it has {known}".strip())
    compared = [name for name in recipe.baselines if name in only or not only]
    pairs: list[Pair] = []
    families: dict[str, list[str]] = {}
    for name in compared:
        baseline = recipe.baselines[name]
        recipe, variants = _with_variants(recipe, name, against)
        families.setdefault(baseline, [baseline]).extend([name, *variants])
        pairs += [Pair(baseline, name), *(Pair(variant, name) for variant in variants)]
    kept = {name for family in families.values() for name in family}
    recipe = replace(
        recipe,
        optimizers={name: make for name, make in recipe.optimizers.items() if name in kept},
        baselines={name: baseline for name, baseline in recipe.baselines.items() if name in kept},
    )
    return Contest(recipe, tuple(pairs), tuple(map(tuple, families.values())))


def _with_variants(recipe: Recipe, name: str, against: Sequence[str]) -> tuple[Recipe, list[str]]:
    variants = []
    for settings in against:
        variant = f"{name}-{_slug(settings)}"
        made = recipe
        for assignment in settings.split(","):
            made = override(made, f"optimizers.{name}.{assignment}")
        if made.optimizers[name] == recipe.optimizers[name] or variant in recipe.optimizers:
            raise ValueError(f"--against {settings}: {name} has that already")
        recipe = replace(
            recipe,
            optimizers={**recipe.optimizers, variant: made.optimizers[name]},
            baselines={**recipe.baselines, variant: recipe.baselines[name]},
        )
        variants.append(variant)
    return recipe, variants


def _slug(settings: str) -> str:
    """What may stand in the name of an optimizer, of a folder, and in the path of an override."""
    return re.sub(r"[^\w-]+", "-", settings).strip("-") or "variant"
