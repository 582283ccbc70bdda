"""The experiments, as values; one file for each task."""

from tangential.recipes.digits import digits
from tangential.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (digits,)}
