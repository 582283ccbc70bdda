"""What every task of the recipes must keep, so that one loop can train them all."""

import math
from dataclasses import replace

import pytest
import torch

from tangential.experiments.recipes import RECIPES
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training.fit import fit
from tangential.experiments.training.plan import Plan, TrainingOptions
from tangential.invariances import Invariances
from tangential.telemetry import read_records

pytestmark = pytest.mark.slow

TASKS = {name: recipe.smoke().task for name, recipe in RECIPES.items()}
each_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(autouse=True)
def _no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("TANGENTIAL_DATA", str(tmp_path / "nowhere"))


def flat(value):
    """All tensors in a batch, whatever it is made of."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [each for key in sorted(value) for each in flat(value[key])]
    if isinstance(value, list | tuple):
        return [each for item in value for each in flat(item)]
    return flat(vars(value)) if hasattr(value, "__dict__") else []


def drawn(task, split, seed=None):
    torch.manual_seed(5)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return [flat(batch) for batch in task.batches(split, batch_size=8, generator=generator)]


def same(one, other):
    return len(one) == len(other) and all(
        len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


@each_task
def test_test_batches_repeat(name):
    assert same(drawn(TASKS[name], "test"), drawn(TASKS[name], "test"))


@each_task
def test_order_decides_the_training_batches(name):
    assert same(drawn(TASKS[name], "train", 1), drawn(TASKS[name], "train", 1))
    assert len(drawn(TASKS[name], "train", 1)) == len(TASKS[name].batches("train", batch_size=8))


@each_task
def test_model_comes_from_the_seed(name):
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(TASKS[name].model().state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@each_task
def test_loss_is_one_finite_number_that_every_parameter_feels(name):
    task = TASKS[name]
    torch.manual_seed(0)
    model = task.model().train()
    batch = next(iter(task.batches("train", batch_size=8, generator=torch.Generator())))
    objectives = task.objectives(model)
    assert len({each.name for each in objectives}) == len(objectives) > 0
    for objective in objectives:
        groups = [each["params"] if isinstance(each, dict) else [each] for each in objective.parameters]
        parameters = [p for group in groups for p in group if p.requires_grad]
        for p in parameters:
            p.grad = None
        loss = objective.loss(model, batch)
        assert loss.ndim == 0 and bool(loss.isfinite())
        loss.backward()
        assert parameters and all(p.grad is not None and bool(p.grad.isfinite().all()) for p in parameters)


@each_task
def test_score_is_pure_finite_and_holds_the_headline(name):
    task = TASKS[name]
    torch.manual_seed(0)
    model = task.model().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    scores = []
    for _ in range(2):
        torch.manual_seed(1)
        with torch.no_grad():
            scores.append(task.score(model, task.batches("test", batch_size=8)))
    assert scores[0] == scores[1]
    assert task.headline.name in scores[0]
    assert all(isinstance(value, float) and math.isfinite(value) for value in scores[0].values())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


FIRST = ("biased-mnist-0.997", "biased-mnist-small")
TWINS = ("biased-mnist", "imagenet-resnet50", "cifar10-adversarial-l2")
WATCHED = ("digits", "mnist-small", "cifar10-adversarial-small", "biased-mnist-small", "bccd-centernet")


def runs():
    """Every recipe with every optimizer; those that differ from another one in a few numbers with one optimizer."""
    for name, recipe in RECIPES.items():
        twin = (name not in FIRST and name.startswith(TWINS)) or name.endswith(("-nowd", "-imagenet"))
        yield from [(name, each) for each in recipe.optimizers][-1 if twin else 0 :]


@pytest.mark.parametrize(("name", "optimizer"), list(runs()))
def test_recipe_trains_in_smoke(name, optimizer, tmp_path):
    recipe = replace(RECIPES[name].smoke(), options=TrainingOptions(watch_every=1 if name in WATCHED else 0))
    plan = recipe.plan(optimizer, 0)
    assert isinstance(plan, Plan)
    folder = RunFolder(tmp_path)
    folder.start(recipe.settings(optimizer, 0), {})
    (record,) = fit(plan, folder)
    assert math.isfinite(record[f"test_{recipe.task.headline.name}"])
    assert record["effective_step"] > 0
    if name in WATCHED:
        found = Invariances.from_json(folder.invariances.read_text())
        assert any(found.values())
        assert all(record["weights"] for record in read_records(folder.telemetry))
