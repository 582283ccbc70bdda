"""Real runs of the recipe `digits` with telemetry: what the report's tests are about."""

import contextlib
import json
import math
from dataclasses import replace

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tangential.invariances import find_invariances
from tangential.jobs import jobs
from tangential.recipes import RECIPES
from tangential.runs import RunFolder, replace_text
from tangential.train import fit

STEPS_PER_EPOCH = 38
NAMES = ("0.0.weight", "1.0.weight", "3.0.weight", "6.weight")


def train_digits(out, *, epochs=3, seeds=2, every=10):
    """Train every optimizer of the recipe from each seed, watched."""
    recipe = replace(RECIPES["digits"], epochs=epochs, seeds=seeds)
    found = find_invariances(recipe.task.model(), torch.rand(8, 1, 8, 8)).to_json()
    for job in jobs(recipe, out):
        job.folder.start(job.settings, {"command": "tangential train digits", "torch": torch.__version__})
        replace_text(job.folder.invariances, found)
        with watching(job.folder, every) if not job.folder.telemetry.exists() else contextlib.nullcontext():
            for _ in fit(job.plan, job.folder):
                pass
    return out


@contextlib.contextmanager
def watching(folder: RunFolder, every):
    """Write the telemetry of whatever optimizer steps meanwhile: plain formulas in float64, whole weights as blocks."""
    count, before = 0, []

    def copies(optimizer):
        weights = [p for group in optimizer.param_groups for p in group["params"] if p.ndim > 1]
        return [w.detach().double().flatten().clone() for w in weights]

    def pre(optimizer, args, kwargs):
        before[:] = copies(optimizer)

    def post(optimizer, args, kwargs):
        nonlocal count
        count += 1
        if count % every:
            return
        weights = dict(zip(NAMES, map(figures, before, copies(optimizer)), strict=True))
        record = {"step": count, "epoch": (count - 1) // STEPS_PER_EPOCH + 1, "weights": weights}
        with folder.telemetry.open("a") as file:
            file.write(json.dumps(record) + "\n")

    hooks = [register_optimizer_step_pre_hook(pre), register_optimizer_step_post_hook(post)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def figures(old, new):
    """One weight's figures, with the names of the run folder's format."""
    norm, update = old.norm(), new - old
    radial = update @ old / norm
    cosine = float(old @ new / norm / new.norm())
    return {
        "kind": "layer",
        "blocks": 1,
        "norm": float(norm),
        "relative_update": float(update.norm() / norm),
        "effective_step": float((new / new.norm() - old / norm).norm()),
        "angle": math.acos(min(cosine, 1.0)),
        "radial_update": float(radial / norm),
        "tangential_update": float((update - radial * old / norm).norm() / norm),
        "gradient_cosine": None,
        "radial_momentum": None,
        "projected": None,
        "flips": None,
        "equilibrium_angle": None,
    }
