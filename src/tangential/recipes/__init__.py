"""The experiments, as values; one file for each task."""

from tangential.recipes.adversarial import ADVERSARIAL
from tangential.recipes.bias import BIAS
from tangential.recipes.classification import CLASSIFICATION
from tangential.recipes.detection import DETECTION
from tangential.recipes.digits import digits
from tangential.recipes.language import LANGUAGE
from tangential.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (digits, *CLASSIFICATION, *ADVERSARIAL, *BIAS, *DETECTION, *LANGUAGE)
}
