"""Recipes: the comparisons of the paper and small ones like them, as values; a file for each task.

A recipe puts a task, optimizers, a schedule and options of training together. It may not compute anything: what is
learned and measured belongs to the task, how it is trained to `training`.
"""

from collections.abc import Iterable

from tangential.experiments.recipes.adversarial import ADVERSARIAL
from tangential.experiments.recipes.audio import AUDIO
from tangential.experiments.recipes.bias import BIAS
from tangential.experiments.recipes.classification import CLASSIFICATION
from tangential.experiments.recipes.classification import digits as digits
from tangential.experiments.recipes.detection import DETECTION
from tangential.experiments.recipes.language import LANGUAGE
from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.recipes.retrieval import RETRIEVAL
from tangential.experiments.settings.overrides import override
from tangential.experiments.settings.suggestion import did_you_mean

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*CLASSIFICATION, *ADVERSARIAL, *BIAS, *DETECTION, *LANGUAGE, *AUDIO, *RETRIEVAL)
}


def choose(name: str, settings: Iterable[str] = (), *, smoke: bool = False) -> Recipe:
    """A recipe by name, with some settings overridden.

    Args:
        name: One of `RECIPES`.
        settings: Overrides, see `tangential.experiments.settings.overrides`.
        smoke: Whether to start from its smoke test: two steps on synthetic data.

    Raises:
        ValueError: No such recipe, or an override that is refused.

    Examples:
        >>> choose("digits", ["epochs=3"]).epochs
        3
    """
    if name not in RECIPES:
        meant = did_you_mean(name, RECIPES)
        raise ValueError(f"unknown recipe {name!r}{meant or '; choose from: ' + ', '.join(RECIPES)}")
    recipe = RECIPES[name].smoke() if smoke else RECIPES[name]
    for assignment in settings:
        recipe = override(recipe, assignment)
    return recipe
