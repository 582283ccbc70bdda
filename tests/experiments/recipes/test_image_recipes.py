"""What the recipes of images promise: the notation of weight decay, settings of the paper, mixed targets."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.nets.normalized import Normalized
from tangential.experiments.nets.resnet import resnet
from tangential.experiments.recipes import RECIPES
from tangential.experiments.settings.overrides import override
from tangential.experiments.tasks.classification import Classification
from tangential.experiments.training.schedules import multistep

small = Classification(data=Gratings(side=8, count=20), net=partial(resnet, depth=8, width=2))


@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
def test_mixed_targets_are_shares_that_add_up_to_one(kind):
    torch.manual_seed(0)
    images, classes = next(iter(small.batches("train", batch_size=20)))
    mixed, targets = replace(small, **{kind: 1.0}).mixed(images, classes)
    assert mixed.shape == images.shape and targets.shape == (20, 10)
    assert torch.allclose(targets.sum(1), torch.ones(20))
    assert ((targets > 0).sum(1) <= 2).all() and not torch.equal(mixed, images)
    own = targets.gather(1, classes[:, None])
    if kind == "cutmix":  # every image keeps the same share of its own pixels as of its own class
        kept = (mixed == images).all(1).double().mean((1, 2))
        assert torch.allclose(kept.float(), own[:, 0].clamp_max(1.0), atol=0.02)


def test_both_ways_of_mixing_take_turns_and_torchs_generator_decides():
    both = replace(small, cutmix=1.0, mixup=1.0)
    images, classes = next(iter(small.batches("train", batch_size=20)))

    def draw(seed):
        torch.manual_seed(seed)
        return both.mixed(images, classes)[0]

    assert torch.equal(draw(1), draw(1))
    pasted = [bool(torch.isin(draw(seed), images).all()) for seed in range(12)]
    assert {True, False} == set(pasted)


def test_the_score_knows_neither_mixing_nor_smoothing():
    torch.manual_seed(0)
    model = small.model().eval()
    changed = replace(small, cutmix=1.0, label_smoothing=0.2)
    with torch.no_grad():
        assert changed.score(model, changed.batches("test", batch_size=20)) == small.score(
            model, small.batches("test", batch_size=20)
        )


def test_smoothing_spreads_a_share_of_the_target():
    logits = torch.tensor([[2.0, 0.0]])
    model = lambda images: logits  # noqa: E731
    plain, smooth = (replace(small, label_smoothing=share).loss(model, (None, torch.tensor([0]))) for share in (0, 0.2))
    other = small.loss(model, (None, torch.tensor([1])))
    assert torch.isclose(smooth, 0.9 * plain + 0.1 * other)


@pytest.mark.parametrize(
    "setting", [{"label_smoothing": 1.0}, {"cutmix": -1.0}, {"mixup": -0.1}, {"workers": -1}], ids=str
)
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}="):
        Classification(**setting)


def test_the_model_normalises_and_the_data_do_not():
    task = replace(small, data=Gratings(side=8, mean=(0.5,) * 3, std=(0.25,) * 3))
    assert isinstance(task.model(), Normalized)
    images, _ = next(iter(task.batches("test", batch_size=16)))
    assert 0 <= images.min() and images.max() <= 1


def lost_per_step(make):
    """The share that one step at the full learning rate takes from a weight without gradient, on the long run."""
    weight = nn.Parameter(torch.ones(4, 4, dtype=torch.float64))
    optimizer = make([weight])
    for group in optimizer.param_groups:
        group["wd_ratio"] = 1.0  # weights without gradient pass the paper's test
    before = None
    for _ in range(300):  # momentum is full after some tens of steps
        before = weight.detach().clone()
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    return float((1 - weight.detach() / before).mean())


@pytest.mark.parametrize("name", ["imagenet-resnet18", "imagenet-mobilenetv2", "cifar10-resnet18", "mnist-small"])
def test_all_four_optimizers_lose_the_papers_1e_4_per_step(name):
    for make in RECIPES[name].optimizers.values():
        assert lost_per_step(make) == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("-nowd")])
def test_a_twin_without_decay_differs_in_nothing_else(name):
    twin, recipe = RECIPES[name], RECIPES[name.removesuffix("-nowd")]
    for optimizer, make in twin.optimizers.items():
        other = recipe.optimizers[optimizer]
        assert make.func is other.func
        assert make.keywords == other.keywords | {"weight_decay": 0.0}
    assert (twin.task, twin.epochs, twin.batch_size) == (recipe.task, recipe.epochs, recipe.batch_size)


def test_the_papers_numbers_stand_beside_the_optimizers_they_are_of():
    assert RECIPES["imagenet-resnet18"].paper["adamp"].value == 70.81
    assert RECIPES["imagenet-resnet18-nowd"].paper["sgd"].value == 67.94
    assert RECIPES["cifar10-adversarial-linf"].paper["adamw"].value == 56.58
    assert RECIPES["biased-mnist-0.999"].paper["adamp"].value == 30.5
    for recipe in RECIPES.values():
        assert set(recipe.paper) <= set(recipe.optimizers)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "digits"])
def test_a_recipe_without_its_data_says_so_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TANGENTIAL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"^no .* in .*; get it from https?://.* and put it there$"):
        RECIPES[name].check()


@pytest.mark.parametrize(
    ("name", "assignment"),
    [
        ("imagenet-resnet18", "task.net.name=vit_b_16"),
        ("imagenet-resnet18", "task.mixup=0.2"),
        ("imagenet-resnet18", "task.data.root=/data"),
        ("mnist-small", "task.data.download=true"),
        ("cifar10-small", "task.data.limit=none"),
        ("cifar10-adversarial-l2", "task.attack.norm=l2-sign"),
        ("cifar10-adversarial-linf", "task.net.depth=16"),
        ("biased-mnist-0.997", "task.data.source.root=/data"),
        ("biased-mnist-0.997", "task.bandwidth=none"),
        ("biased-mnist-0.997", "schedule.at=0.5,0.9"),
    ],
)
def test_settings_can_be_changed_from_the_command_line(name, assignment):
    recipe = RECIPES[name]
    changed = override(recipe, assignment)
    optimizer = next(iter(recipe.optimizers))
    assert changed.settings(optimizer, 0) != recipe.settings(optimizer, 0)


def test_drops_come_at_their_shares_of_the_run():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule, seen = multistep(optimizer, 80, at=(0.25, 0.5, 0.75), factor=0.1), []
    for _ in range(80):
        seen.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()
        schedule.step()
    assert seen == [1.0] * 20 + [0.1] * 20 + [0.01] * 20 + [0.001] * 20
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        multistep(optimizer, 8, at=(2.0,))
