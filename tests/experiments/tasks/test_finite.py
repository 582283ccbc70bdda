"""No metric of values that are not finite is finite, for any task and whichever value it is."""

import math

import pytest
import torch
from torch import nn

from tangential.experiments.recipes import RECIPES
from tangential.experiments.tasks.attacks import Attack
from tangential.experiments.tasks.audio import Keyword, Tagging, areas
from tangential.experiments.tasks.autoattack import robust_accuracy
from tangential.experiments.tasks.average_precision import coco_precision, voc_precision
from tangential.experiments.tasks.finite import number_correct
from tangential.experiments.tasks.hsic import hsic
from tangential.experiments.tasks.recall import nearest, recall

TASKS = [
    "digits",
    "cifar10-adversarial-small",
    "biased-mnist-small",
    "bccd-centernet",
    "coco-centernet",
    "bccd-ssd",
    "shakespeare-txl",
    "shakespeare-txl-wn",
    "fsdd-harmonic",
    "mtat-harmonic",
    "omniglot-proxy-anchor",
    "omniglot-triplet",
]
VALUES = [math.nan, math.inf, -math.inf]


def score(task, model):
    with torch.no_grad():
        return task.score(model.eval(), task.batches("test", batch_size=8))


def scored_weights(model):
    """The weights that a score depends on: of ReBias the debiased net's, of metric learning all but the proxies."""
    return [
        weight
        for name, weight in model.named_parameters()
        if not name.startswith(("g.", "criterion.")) and name not in ("body.biases",)
    ]


@pytest.fixture(scope="module")
def tasks():
    return {name: RECIPES[name].task.smoke() for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_every_score_of_a_new_model_is_finite(name, tasks):
    torch.manual_seed(0)
    found = score(tasks[name], tasks[name].model())
    assert found and all(map(math.isfinite, found.values())), found


@pytest.mark.parametrize("name", TASKS)
def test_an_empty_test_set_has_no_score(name, tasks):
    with pytest.raises(ValueError, match="the test set is empty"):
        tasks[name].score(tasks[name].model().eval(), [])


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("name", TASKS)
def test_no_score_of_weights_that_are_not_finite_is_finite(name, value, tasks):
    torch.manual_seed(0)
    model = tasks[name].model()
    for weight in scored_weights(model):
        nn.init.constant_(weight, value)
    found = score(tasks[name], model)
    assert found and not any(map(math.isfinite, found.values())), found


@pytest.mark.parametrize("name", TASKS)
def test_one_output_that_is_not_a_number_is_enough(name, tasks):
    torch.manual_seed(0)
    model = tasks[name].model()
    last = [weight for weight in scored_weights(model) if weight.numel() > 1][-1]
    with torch.no_grad():
        last.view(-1)[-1] = math.nan
    found = score(tasks[name], model)
    assert not any(map(math.isfinite, found.values())), found


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("row", [0, 7])
def test_one_logit_spoils_an_accuracy_wherever_it_stands(value, row):
    logits, classes = torch.eye(8), torch.arange(8)
    assert number_correct(logits, classes) == 8
    logits[row, 3] = value
    assert math.isnan(number_correct(logits, classes))


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize(("side", "field"), [("found", "boxes"), ("found", "scores"), ("truth", "boxes")])
def test_one_box_or_score_spoils_an_average_precision(value, side, field):
    truth = [{"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([1])} for _ in range(2)]
    found = [each | {"scores": torch.tensor([0.9])} for each in truth]
    group = found if side == "found" else truth
    group[1] = group[1] | {field: group[1][field].clone()}
    group[1][field].view(-1)[0] = value
    assert all(map(math.isnan, coco_precision(found, truth).values()))
    assert math.isnan(voc_precision(found, truth))


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("gallery", [False, True])
def test_one_number_of_an_embedding_spoils_a_recall(value, gallery):
    vectors, classes = torch.eye(4)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
    bad = vectors.clone()
    bad[2, 3] = value
    given = (vectors, classes, bad, classes) if gallery else (bad, classes)
    assert all(map(math.isnan, recall(*given, at=(1, 2))))
    with pytest.raises(ValueError, match="not finite"):
        nearest(vectors[:1], bad, 2)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_one_probability_spoils_the_metrics_of_sounds(value):
    probabilities, tags = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), torch.eye(2)[[0, 1, 1]]
    probabilities[2, 1] = value
    assert all(map(math.isnan, areas(probabilities, tags).values()))
    assert all(map(math.isnan, Tagging().metrics(probabilities, tags).values()))
    assert all(map(math.isnan, Keyword().metrics(probabilities, torch.tensor([0, 1, 1])).values()))


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("bandwidth", [1.0, None])
def test_one_feature_spoils_a_dependence(value, bandwidth):
    x, y = torch.randn(2, 6, 3)
    x[2, 1] = value
    assert not hsic(x, y, bandwidth=bandwidth).isfinite()
    assert not hsic(y, x, bandwidth=bandwidth).isfinite()


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_one_logit_spoils_a_robust_accuracy(value):
    pytest.importorskip("pyautoattack")

    class Broken(nn.Module):
        def forward(self, images):
            logits = 10 * torch.nn.functional.one_hot(images.flatten(1).argmax(1) % 4, 4).float()
            logits[0, 1] = value
            return logits + 0 * images.flatten(1).sum(1, keepdim=True)

    images, classes = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2])
    found = robust_accuracy(
        Broken().eval(), [(images, classes)], Attack(radius=0.01), version="custom", attacks=["apgd-ce"]
    )
    assert math.isnan(found)
