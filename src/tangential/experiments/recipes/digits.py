"""The demo: a minute on data that ship with scikit-learn."""

from __future__ import annotations

from functools import partial

from tangential.experiments.recipes.recipe import PROJECTED, Recipe, adam_pair, sgd_pair
from tangential.experiments.tasks.classification import Classification
from tangential.experiments.training.schedules import cosine

digits = Recipe(
    name="digits",
    about="a BatchNorm conv net on scikit-learn's 1,797 digits, in about a minute",
    task=Classification(),
    optimizers={
        **sgd_pair(lr=0.1, momentum=0.9, weight_decay=1e-4),
        **adam_pair(lr=1e-2, betas=(0.9, 0.999), weight_decay=1e-2),
    },
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.01),
    epochs=20,
    batch_size=32,
)
