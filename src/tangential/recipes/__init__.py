"""The experiments, as values; one file for each task."""

from tangential.recipes.detection import (
    bccd_centernet,
    bccd_ssd,
    coco_centernet,
    coco_centernet_imagenet,
    coco_ssd,
    coco_ssd_imagenet,
)
from tangential.recipes.digits import digits
from tangential.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        digits,
        coco_centernet,
        coco_centernet_imagenet,
        coco_ssd,
        coco_ssd_imagenet,
        bccd_centernet,
        bccd_ssd,
    )
}
