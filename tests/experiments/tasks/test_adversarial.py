"""Attacks and adversarial training, by their laws."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.nets.wide_resnet import wide_resnet
from tangential.experiments.tasks.adversarial import Adversarial
from tangential.experiments.tasks.attacks import Attack, attacked, lengths
from tangential.experiments.tasks.autoattack import robust_accuracy

small = Adversarial(data=Gratings(side=8, count=32), net=partial(wide_resnet, depth=10, width=1))
ATTACKS = [
    Attack(norm=norm, radius=radius, step=radius / 2, steps=4, random_start=start)
    for norm, radius in (("linf", 8 / 255), ("l2", 0.5), ("l2-sign", 0.5))
    for start in (False, True)
]


def names(attack):
    return f"{attack.norm}-{'random' if attack.random_start else 'image'}"


each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=names)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return small.model().eval()


@pytest.fixture
def batch():
    return next(iter(small.batches("test", batch_size=16)))


def distances(changed, images, attack):
    delta = (changed - images).flatten(1)
    return delta.abs().amax(1) if attack.norm == "linf" else delta.norm(dim=1)


@each_attack
def test_attacked_images_stay_in_the_ball_and_in_the_range_of_images(model, batch, attack):
    images, classes = batch
    changed = attacked(model, images, classes, attack)
    assert distances(changed, images, attack).max() <= attack.radius * (1 + 1e-5) + 1e-6
    assert 0 <= changed.min() and changed.max() <= 1
    assert not changed.requires_grad


@each_attack
def test_the_loss_under_attack_is_no_less_than_without(model, batch, attack):
    images, classes = batch
    with torch.no_grad():
        before = cross_entropy(model(images), classes)
        after = cross_entropy(model(attacked(model, images, classes, attack)), classes)
    assert after > before


@each_attack
@pytest.mark.parametrize("training", [True, False])
def test_an_attack_leaves_the_model_as_it_was(model, batch, attack, training):
    model.train(training)
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images, classes = batch
    kept = images.clone()
    attacked(model, images, classes, attack)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all((weight.grad == 1).all() and weight.requires_grad for weight in model.parameters())
    assert torch.equal(images, kept) and not images.requires_grad


def test_a_model_that_fails_gets_its_modes_back(batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        attacked(model, *batch, ATTACKS[0])
    assert model[1].training


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_an_attack_works_where_gradients_are_off(model, batch, context):
    images, classes = batch
    expected = attacked(model, images, classes, ATTACKS[0])
    with context():
        assert torch.equal(attacked(model, images * 1, classes * 1, ATTACKS[0]), expected)


def linear(images, classes=2):
    """A model whose gradient is known: its loss falls along one direction, the same for all images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), classes, bias=False))


def test_an_l2_step_has_its_length_for_every_image_whatever_the_gradient():
    images = 0.4 + 0.2 * torch.rand(6, 1, 4, 4)
    images[0] += 0.01  # other logits, another length of the gradient
    step = Attack(norm="l2", radius=1.0, step=0.05, steps=1, random_start=False)
    moved = attacked(linear(images), images, torch.tensor([0, 1, 0, 1, 0, 1]), step) - images
    assert torch.allclose(lengths(moved).flatten(), torch.full((6,), 0.05), rtol=1e-5)


def test_l2_attacks_on_a_linear_model_reach_the_exact_optimum():
    images = torch.full((2, 1, 4, 4), 0.5)
    model, radius = linear(images), 0.3
    changed = attacked(model, images, torch.tensor([0, 1]), Attack(norm="l2", radius=radius, step=0.2, steps=5))
    along = nn.functional.normalize(model[1].weight[1] - model[1].weight[0], dim=0).reshape(1, 4, 4)
    best = images + radius * torch.stack([along, -along])
    assert torch.allclose(changed, best, atol=0.05)  # a random start leaves a little beside it
    from_image = Attack(norm="l2", radius=radius, step=0.2, steps=5, random_start=False)
    assert torch.allclose(attacked(model, images, torch.tensor([0, 1]), from_image), best, atol=1e-6)


def test_linf_attacks_on_a_linear_model_reach_a_corner_of_the_ball():
    images = torch.full((2, 1, 4, 4), 0.5)
    model = linear(images)
    changed = attacked(model, images, torch.tensor([0, 1]), Attack(radius=0.1, step=0.06, steps=4))
    along = (model[1].weight[1] - model[1].weight[0]).sign().reshape(1, 4, 4)
    assert torch.allclose(changed, images + 0.1 * torch.stack([along, -along]), atol=1e-6)


def test_projection_onto_the_l2_ball_is_the_nearest_point():
    images = torch.full((5, 1, 4, 4), 0.5)
    far = Attack(norm="l2", radius=0.3, step=5.0, steps=1, random_start=False)
    moved = attacked(linear(images), images, torch.zeros(5, dtype=torch.int64), far) - images
    assert torch.allclose(lengths(moved).flatten(), torch.full((5,), 0.3), rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm):
    images = torch.full((4000, 1, 1, 2), 0.5)
    start = Attack(norm=norm, radius=0.2, steps=0)
    moved = (attacked(nn.Identity(), images, torch.zeros(4000, dtype=torch.int64), start) - images) / 0.2
    within = (moved.flatten(1).norm(dim=1) if norm == "l2" else moved.flatten(1).abs().amax(1)) <= 0.5
    assert within.double().mean() == pytest.approx(0.25, abs=0.03)  # a quarter of the area in half the radius
    assert moved.flatten(1).mean(0).abs().max() < 0.05


def test_an_empty_ball_changes_nothing(model, batch):
    images, classes = batch
    for norm in ("linf", "l2"):
        assert torch.allclose(attacked(model, images, classes, Attack(norm=norm, radius=0.0)), images)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"norm": "l1"}, "must be one of linf, l2"), ({"radius": -1}, "radius=-1"), ({"steps": -1}, "steps=-1")],
)
def test_bad_attacks_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Attack(**setting)


def test_score_is_pure_and_no_better_under_attack(model):
    task = Adversarial(data=small.data, net=small.net, evaluation=Attack(radius=16 / 255, steps=5, random_start=True))
    with torch.no_grad():
        torch.manual_seed(1)
        one = task.score(model, task.batches("test", batch_size=16))
        torch.manual_seed(2)
        assert task.score(model, task.batches("test", batch_size=16)) == one
    assert one["attacked_loss"] > one["loss"] and one["attacked_accuracy"] <= one["accuracy"]


def test_the_loss_is_that_of_attacked_images(model, batch):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    loss = small.loss(model, batch)
    images, classes = batch
    again = small.model()
    again.load_state_dict(before)
    torch.manual_seed(7)
    changed = attacked(again, images, classes, small.attack)
    assert torch.equal(loss, cross_entropy(again.train()(changed), classes))
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


class Confident(nn.Module):
    """Right by a margin that no small change overcomes, or by next to none."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, images):
        level = images.mean(dim=(1, 2, 3))
        return self.margin * torch.stack([level - 0.5, 0.5 - level, *[level * 0 - 0.25] * 8], dim=1)


@pytest.mark.parametrize(("brightness", "share"), [(0.9, 1.0), (0.51, 0.0)])
def test_autoattack_agrees_where_the_answer_is_known(brightness, share):
    pytest.importorskip("pyautoattack")
    images, classes = torch.full((2, 1, 4, 4), brightness), torch.zeros(2, dtype=torch.int64)
    attack = Attack(radius=0.05)
    found = robust_accuracy(Confident(10.0).eval(), [(images, classes)], attack, version="custom", attacks=["apgd-ce"])
    assert found == share


def test_autoattack_asks_for_what_it_needs(model, batch, monkeypatch):
    with pytest.raises(ValueError, match="training mode"):
        robust_accuracy(model.train(), [batch], Attack())
    with pytest.raises(ValueError, match="only for it"):
        robust_accuracy(model.eval(), [batch], Attack(), attacks=["fab"])
    monkeypatch.setitem(__import__("sys").modules, "pyautoattack", None)
    with pytest.raises(ValueError, match=r"pip install 'tangential\[adversarial\]'"):
        robust_accuracy(model, [batch], Attack())
