"""The experiments, as values; one file for each task."""

from collections.abc import Iterable

from tangential.overrides import override
from tangential.recipes.adversarial import ADVERSARIAL
from tangential.recipes.audio import AUDIO
from tangential.recipes.bias import BIAS
from tangential.recipes.classification import CLASSIFICATION
from tangential.recipes.detection import DETECTION
from tangential.recipes.digits import digits
from tangential.recipes.language import LANGUAGE
from tangential.recipes.recipe import Recipe
from tangential.recipes.retrieval import RETRIEVAL

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (digits, *CLASSIFICATION, *ADVERSARIAL, *BIAS, *DETECTION, *LANGUAGE, *AUDIO, *RETRIEVAL)
}


def choose(name: str, settings: Iterable[str] = (), *, smoke: bool = False) -> Recipe:
    """Give a recipe with some settings changed.

    Args:
        name: One of `RECIPES`.
        settings: Overrides, see `tangential.overrides`.
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
