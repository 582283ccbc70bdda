"""The experiments, as values; one file for each task."""

from collections.abc import Iterable

from tangential.experiments.recipes.adversarial import ADVERSARIAL
from tangential.experiments.recipes.audio import AUDIO
from tangential.experiments.recipes.bias import BIAS
from tangential.experiments.recipes.classification import CLASSIFICATION
from tangential.experiments.recipes.detection import DETECTION
from tangential.experiments.recipes.digits import digits
from tangential.experiments.recipes.language import LANGUAGE
from tangential.experiments.recipes.recipe import Recipe
from tangential.experiments.recipes.retrieval import RETRIEVAL
from tangential.experiments.settings.overrides import override

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (digits, *CLASSIFICATION, *ADVERSARIAL, *BIAS, *DETECTION, *LANGUAGE, *AUDIO, *RETRIEVAL)
}


def choose(name: str, settings: Iterable[str] = (), *, smoke: bool = False) -> Recipe:
    """Give a recipe with some settings changed.

    Args:
        name: One of `RECIPES`.
        settings: Overrides, see `tangential.experiments.settings.overrides`.
        smoke: Whether to begin with its two steps on generated data.

    Raises:
        ValueError: No such recipe, or what the overrides say.

    Example:
        >>> choose("digits", ["epochs=3"]).epochs
        3
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose from: {', '.join(RECIPES)}")
    recipe = RECIPES[name].smoke() if smoke else RECIPES[name]
    for assignment in settings:
        recipe = override(recipe, assignment)
    return recipe
