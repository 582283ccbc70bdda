"""Real runs of the recipe `digits` with their telemetry: what the report's tests are about."""

from dataclasses import replace

import torch

from tangential.experiments.recipes import RECIPES
from tangential.experiments.recipes.jobs import jobs
from tangential.experiments.training.fit import fit
from tangential.experiments.training.plan import TrainingOptions


def train_digits(out, *, epochs=3, seeds=2, every=10):
    """Train every optimizer of the recipe from each seed, watched."""
    recipe = replace(RECIPES["digits"], epochs=epochs, seeds=seeds, options=TrainingOptions(watch_every=every))
    for job in jobs(recipe, out):
        job.folder.start(job.settings, {"command": "tangential train digits", "torch": torch.__version__})
        for _ in fit(job.plan, job.folder):
            pass
    return out
