"""The task of retrieval: embeddings, losses, batches, what is scale-invariant, and the page of neighbours."""

import copy
import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize, one_hot

from tangential.blocks import Blocks
from tangential.cli.signatures.neighbours import neighbours
from tangential.experiments.data.images.class_balanced import ClassBalanced
from tangential.experiments.data.images.in_memory import Images
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.nets.by_name import by_name
from tangential.experiments.nets.embedding import SummedPool, embedder
from tangential.experiments.nets.small import conv_stack
from tangential.experiments.recipes import RECIPES
from tangential.experiments.recipes.retrieval import RETRIEVAL
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.tasks.metric_losses import proxy_anchor, semihard_triplet
from tangential.experiments.tasks.retrieval import Retrieval, embedded
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training
from tangential.experiments.training.schedules import step_decay
from tangential.experiments.viewers.neighbours import answers
from tangential.experiments.viewers.neighbours_page import save
from tangential.invariances import find_invariances
from tangential.optimizers import AdamP

DATA = Gratings(channels=1, classes=4, side=16, count=32)
SMALL = Retrieval(
    data=DATA, net=partial(embedder, body=partial(conv_stack, width=6, depth=2)), dim=8, proxy_scale=10.0, at=(1, 2)
)
TRIPLET = replace(SMALL, criterion=partial(semihard_triplet), per_class=4)
RESNET = partial(embedder, body=partial(by_name, name="resnet18"))


# --- embeddings


@pytest.mark.parametrize(
    "body",
    [
        partial(conv_stack, width=4),
        partial(by_name, name="resnet18"),
        partial(by_name, name="efficientnet_b0"),
        partial(by_name, name="timm:resnet10t"),
    ],
    ids=lambda body: body.keywords.get("name", "stack"),
)
def test_embeddings_have_norm_one_and_pool_mean_plus_maximum(body):
    net = embedder(channels=3, dim=7, body=body)
    pools = [module for module in net.body.modules() if isinstance(module, SummedPool)]
    maps = []
    pools[0].register_forward_hook(lambda module, args, output: maps.append((args[0], output.clone())))
    with torch.no_grad():
        out = net(torch.rand(3, 3, 32, 32))
    assert out.shape == (3, 7)
    assert torch.allclose(out.norm(dim=1), torch.ones(3))
    ((before, after),) = maps
    assert len(pools) == 1
    assert torch.allclose(after.flatten(1), before.mean((2, 3)) + before.amax((2, 3)))


def flat(*, channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, classes))


def test_own_pooling_leaves_the_net_as_it_is():
    net = embedder(channels=3, dim=7, body=partial(flat), pooling="own")
    assert not any(isinstance(module, SummedPool) for module in net.modules())
    assert net(torch.rand(2, 3, 4, 4)).shape == (2, 7)
    with pytest.raises(ValueError, match="Sequential has no global average pooling"):
        embedder(channels=3, dim=7, body=partial(flat))


@pytest.mark.parametrize("settings", [{"dim": 0}, {"pooling": "max"}])
def test_bad_settings_of_the_net_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        embedder(**{"channels": 1, "dim": 3, "body": partial(conv_stack)} | settings)


def test_a_body_starts_from_weights_of_a_classifier(tmp_path):
    classifier = by_name(channels=3, classes=1000, name="resnet18")
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    net = RESNET(channels=3, dim=5, weights=str(tmp_path / "weights.pth"))
    assert torch.equal(net.body.conv1.weight, classifier.conv1.weight)
    assert torch.equal(net.body.layer4[1].bn2.running_var, classifier.layer4[1].bn2.running_var)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_stay_as_they_are_and_others_do_not(frozen):
    task = replace(SMALL, net=partial(SMALL.net, frozen_norms=frozen))
    model = task.model().train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = copy.deepcopy([norm.state_dict() for norm in norms])
    (objective,) = task.objectives(model)
    optimizer = torch.optim.AdamW(objective.parameters, lr=0.1)
    objective.loss(model, next(iter(task.batches("train", batch_size=8)))).backward()
    optimizer.step()
    same = [torch.equal(a[n], b[n]) for a, m in zip(before, norms, strict=True) for b in [m.state_dict()] for n in a]
    assert all(same) if frozen else not any(same)
    assert all(norm.training is not frozen for norm in norms)


# --- losses


def test_proxy_anchor_is_the_formula_of_its_paper():
    classes, dim, alpha, margin = 5, 3, 32.0, 0.1
    criterion = proxy_anchor(classes=classes, dim=dim).double()
    x = normalize(torch.randn(6, dim, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 0, 2, 2, 2, 4])
    cosines = x @ normalize(criterion.proxies, dim=1).T
    mine = one_hot(labels, classes).bool()
    pull = ((-alpha * (cosines - margin)).exp() * mine).sum(0).log1p()
    push = ((alpha * (cosines + margin)).exp() * ~mine).sum(0).log1p()
    assert torch.isclose(criterion(x, labels), pull.sum() / 3 + push.sum() / classes)


def test_triplets_are_the_semi_hard_ones():
    x = normalize(torch.randn(8, 3), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    margin = 0.3
    far = torch.cdist(x, x)
    terms = [
        far[a, p] - far[a, n] + margin
        for a in range(8)
        for p in range(8)
        for n in range(8)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n] and 0 < far[a, n] - far[a, p] < margin
    ]
    assert terms
    loss = semihard_triplet(classes=3, dim=3, margin=margin)(x, labels)
    assert torch.isclose(loss, torch.stack(terms).mean(), atol=1e-5)


def test_without_semi_hard_triplets_the_loss_is_zero_and_has_a_gradient():
    x = torch.eye(4)[torch.tensor([0, 0, 1, 1])].requires_grad_()
    loss = semihard_triplet(classes=2, dim=4)(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss == 0 and not x.grad.any()


@pytest.mark.parametrize("task", [SMALL, TRIPLET], ids=["proxy-anchor", "triplet"])
def test_a_net_learns_to_find_the_unseen_images(task):
    torch.manual_seed(0)
    model = task.model()
    (objective,) = task.objectives(model)
    optimizer = AdamP([{**group, "lr": 0.01 * group.get("lr_scale", 1)} for group in objective.parameters], lr=0.01)
    with torch.no_grad():
        before = task.score(model.eval(), task.batches("test", batch_size=16))
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(15):
        for batch in task.batches("train", batch_size=16, generator=generator):
            optimizer.zero_grad()
            objective.loss(model, batch).backward()
            optimizer.step()
    with torch.no_grad():
        after = task.score(model.eval(), task.batches("test", batch_size=16))
    assert after["recall_at_1"] >= 0.9 > before["recall_at_1"]
    assert set(after) == {"recall_at_1", "recall_at_2"}


# --- what the optimizer is told


def test_proxies_learn_at_their_own_rate_and_the_body_is_marked():
    model = SMALL.model()
    (objective,) = SMALL.objectives(model)
    head, body, proxies = objective.parameters
    assert [p.shape[0] for p in head["params"]] == [8, 8]
    assert body["pretrained"] and len(body["params"]) == 6
    assert proxies["lr_scale"] == 10.0 and proxies["params"] == [model.criterion.proxies]
    training = Training(RECIPES["omniglot-triplet"].smoke().plan("adamp", 0))
    assert len(next(iter(training.optimizers.values())).param_groups) == 2


def found_by_the_loss(task):
    model = task.model()
    images, classes = next(iter(task.batches("train", batch_size=16, generator=torch.Generator())))
    return find_invariances(model, images, forward=lambda m, x: task.loss(m, (x, classes)))


def test_each_proxy_is_scale_invariant_and_the_detector_says_so():
    torch.manual_seed(0)
    found = found_by_the_loss(SMALL)
    assert found["criterion.proxies"] == Blocks()
    assert found["net.body.0.0.weight"] is not None
    assert found["net.head.weight"] is None


def test_the_last_layer_without_a_bias_is_scale_invariant_as_a_whole():
    torch.manual_seed(0)
    task = replace(SMALL, net=partial(SMALL.net, bias=False))
    found = found_by_the_loss(task)
    assert found["net.head.weight"] == Blocks(size=None)


def test_frozen_norms_leave_the_proxies_alone_invariant():
    torch.manual_seed(0)
    task = replace(SMALL, net=partial(SMALL.net, frozen_norms=True))
    found = found_by_the_loss(task)
    assert [name for name in found if found[name] is not None] == ["criterion.proxies"]


# --- batches


def test_balanced_batches_hold_as_many_of_each_class():
    classes = torch.tensor([3] * 5 + [8] * 2 + [1] * 9 + [6] * 1 + [4] * 7)
    batches = list(ClassBalanced(classes, 6, 3, torch.Generator().manual_seed(0)))
    assert len(batches) == len(classes) // 6
    for batch in batches:
        counts = classes[batch].unique(return_counts=True)[1]
        assert counts.tolist() == [3, 3]
        for kind in classes[batch].unique():
            mine = [number for number in batch if classes[number] == kind]
            assert len(set(mine)) == min(3, int((classes == kind).sum()))  # again only where there are too few


def test_balanced_batches_follow_their_generator():
    classes = torch.arange(40) % 8
    generator = torch.Generator().manual_seed(1)
    sampler = ClassBalanced(classes, 8, 2, generator)
    first, state = list(sampler), generator.get_state()
    second = list(sampler)
    assert first != second
    generator.set_state(state)
    assert list(sampler) == second
    assert list(ClassBalanced(classes, 8, 2, torch.Generator().manual_seed(1))) == first


@pytest.mark.parametrize(
    ("batch_size", "per_class", "message"),
    [(6, 4, "multiple of per_class=4"), (12, 2, "takes 6 classes, and there are only 4"), (40, 20, "only 32 training")],
)
def test_batches_that_cannot_be_balanced_are_refused(batch_size, per_class, message):
    task = replace(TRIPLET, per_class=per_class)
    with pytest.raises(ValueError, match=message):
        task.batches("train", batch_size=batch_size, generator=torch.Generator())


@pytest.mark.parametrize("task", [SMALL, TRIPLET], ids=["proxy-anchor", "triplet"])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(task, tmp_path):
    plan = replace(RECIPES["omniglot-triplet"].smoke(), task=task, epochs=2, batch_size=8).plan("adamp", 0)
    whole = Training(plan)
    records = [whole.run_epoch(), whole.run_epoch()]
    half = Training(plan)
    half.run_epoch()
    state = copy.deepcopy(half.state_dict())
    rest = Training(plan)
    rest.load_state_dict(state)
    assert rest.run_epoch()["train_loss"] == records[1]["train_loss"]
    ends = whole.model.state_dict()
    assert all(torch.equal(ends[name], value) for name, value in rest.model.state_dict().items())


@pytest.mark.parametrize(
    "setting", [{"per_class": -1}, {"workers": -1}, {"proxy_scale": -1.0}, {"at": (0, 1)}], ids=str
)
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}="):
        Retrieval(**setting)


# --- scores


@dataclass(frozen=True)
class Shop:
    """Four classes; of the test images every other one is a query."""

    channels = 1
    classes = 4
    mean = std = ()

    def load(self, split):
        whole = DATA.load(split)
        marks = [] if split == "train" else [torch.arange(32) // 4 % 2 == 0]
        return Images(whole.images, whole.classes, *marks)

    def smoke(self):
        return self


class Known(nn.Module):
    """Embeds an image at the corner of the class that it is told."""

    def __init__(self, classes):
        super().__init__()
        self.left = classes.clone()

    def forward(self, images):
        now, self.left = self.left[: len(images)], self.left[len(images) :]
        return torch.eye(8)[now]


def test_queries_are_scored_against_the_gallery():
    shop = replace(SMALL, data=Shop())
    classes = DATA.load("test").classes
    queries = Shop().load("test").marks[0]
    batches = list(shop.batches("test", batch_size=5))
    assert shop.score(Known(classes), batches)["recall_at_1"] == 1.0
    # queries find one another, but nothing of the gallery
    assert shop.score(Known(classes + 4 * queries), batches)["recall_at_1"] == 0.0
    assert embedded(Known(classes), batches)[2].equal(queries)
    assert embedded(Known(classes), SMALL.batches("test", batch_size=5))[2] is None


def test_the_schedule_holds_what_is_pretrained_and_falls_in_equal_steps():
    groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "pretrained": True}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = step_decay(optimizer, 600, frozen=5 / 60, every=5 / 60, factor=0.5)
    rates = []
    for _ in range(600):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [rates[step] for step in (0, 49, 50, 99, 100, 599)] == [
        [1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.25, 0.25], [0.5**11] * 2,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="every=0"):
        step_decay(optimizer, 10, every=0)


@pytest.mark.parametrize("recipe", RETRIEVAL, ids=lambda recipe: recipe.name)
def test_recipes_have_the_papers_protocol(recipe):
    assert isinstance(recipe.task, Retrieval) and recipe.task.headline.name == "recall_at_1"
    assert (recipe.task.per_class > 0) == recipe.name.endswith("-triplet")
    assert recipe.task.per_class == 0 or recipe.batch_size % recipe.task.per_class == 0
    if not recipe.name.startswith("omniglot"):
        assert recipe.epochs == 60 and all(number.verified for number in recipe.paper.values())
        assert recipe.task.net.keywords.get("frozen_norms", False) == recipe.name.startswith(("cub", "cars"))


# --- the page


@pytest.fixture
def run(tmp_path):
    recipe = replace(RECIPES["omniglot-proxy-anchor"].smoke(), seeds=1)
    folder = RunFolder(tmp_path / "runs" / "adamp-seed0")
    folder.start(recipe.settings("adamp", 0), {})
    list(fit(recipe.plan("adamp", 0), folder))
    return folder


def test_the_page_of_a_run_shows_what_the_score_counts(run, tmp_path, capsys):
    neighbours(run.path, count=5, nearest=3)
    text = (run.path / "neighbours.html").read_text()
    (record,) = run.metrics()
    assert f"recall_at_1 {record['test_recall_at_1']:.4f}" in capsys.readouterr().out
    assert f"{100 * record['test_recall_at_1']:.1f} %" in text
    assert text.count('class="query"') == 5
    assert text.count("✓ right") + text.count("✗ wrong") == 15
    assert "http" not in text.split("</head>")[1]
    neighbours(run.path, count=16, nearest=1, wrong=True, out=tmp_path / "a" / "wrong.html")
    wrong = (tmp_path / "a" / "wrong.html").read_text()
    assert wrong.count("✗ wrong") == round(16 * (1 - record["test_recall_at_1"]))
    assert "✓ right<" not in wrong


def test_queries_are_of_different_classes_and_do_not_find_themselves():
    model = SMALL.model().eval()
    found = answers(SMALL, model, count=4, neighbours=6)
    assert len({int(DATA.load("test").classes[each.number]) for each in found.shown}) == 4
    for answer in found.shown:
        numbers = [each.number for each in answer.found]
        assert answer.number not in numbers and len(set(numbers)) == 6
        assert [each.cosine for each in answer.found] == sorted((each.cosine for each in answer.found), reverse=True)
    assert answers(SMALL, model, count=4, neighbours=6) == found


def test_queries_of_a_shop_find_only_its_gallery():
    found = answers(replace(SMALL, data=Shop()), SMALL.model().eval(), count=9, neighbours=40)
    queries = Shop().load("test").marks[0]
    assert all(queries[answer.number] for answer in found.shown)
    assert {len(answer.found) for answer in found.shown} == {16}
    assert not any(queries[each.number] for answer in found.shown for each in answer.found)


HOSTILE = "<script>alert(1)</script>\"'&/<img src=x onerror=alert(2)>.png"


class HostileImages(Images):
    @property
    def samples(self):
        return [(f"/data/{HOSTILE}", int(kind)) for kind in self.classes]


@dataclass(frozen=True)
class HostileData(Shop):
    def load(self, split):
        whole = DATA.load(split)
        return HostileImages(whole.images, whole.classes)


def test_hostile_names_are_escaped(tmp_path):
    task = replace(SMALL, data=HostileData())
    found = answers(task, task.model().eval(), count=2, neighbours=2)
    save(tmp_path / "page.html", f"run {HOSTILE}", task, found)
    text = (tmp_path / "page.html").read_text()
    assert "<script>" not in text and "<img src=x" not in text
    assert "&lt;script&gt;" in text and "onerror=alert(2)&gt;" in text


def test_a_run_of_another_task_is_refused(tmp_path):
    recipe = RECIPES["digits"].smoke()
    folder = RunFolder(tmp_path / "sgd-seed0")
    folder.start(recipe.settings("sgd", 0), {})
    with pytest.raises(ValueError, match="a run of 'digits', which retrieves no images"):
        neighbours(folder.path)


def test_not_finite_embeddings_stop_the_run_and_do_not_count_as_right():
    model = SMALL.model().eval()
    with torch.no_grad():
        model.net.head.weight.fill_(math.nan)
        assert math.isnan(SMALL.score(model, SMALL.batches("test", batch_size=8))["recall_at_1"])
