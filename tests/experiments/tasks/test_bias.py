"""Biased-MNIST, HSIC and ReBias, by their laws."""

from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image

from tangential.experiments.data.images.biased_mnist import COLOURS, BiasedMnist, coloured, colours
from tangential.experiments.data.images.imagenet9 import GROUPS, RUNS, GeneratedImageNet9, ImageNet9, cluster_scores
from tangential.experiments.data.images.in_memory import loader
from tangential.experiments.data.images.synthetic import SegmentDigits
from tangential.experiments.data.images.textures import clusters, grams, texture_net
from tangential.experiments.nets.simple_conv import simple_conv_net
from tangential.experiments.tasks.bias import Bias
from tangential.experiments.tasks.hsic import estimate, gaussian, hsic

digits = BiasedMnist(source=SegmentDigits(count=400), rho=0.9)
small = Bias(data=digits, f=partial(simple_conv_net, kernel=3, width=2), g=partial(simple_conv_net, kernel=1, width=2))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


# Biased-MNIST


@pytest.mark.parametrize("rho", [0.999, 0.997, 0.995, 0.99, 0.1, 0.0, 1.0])
def test_each_class_has_exactly_its_share_in_its_colour_and_the_rest_in_equal_parts(rho):
    counts = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])  # MNIST's
    classes = torch.arange(10).repeat_interleave(counts)[torch.randperm(int(counts.sum()), generator=draw())]
    chosen = colours(classes, rho, draw())
    for own, n in enumerate(counts.tolist()):
        found = chosen[classes == own].bincount(minlength=10)
        rest = n - int(n * rho)
        assert found[own] == int(n * rho)
        part = -(-rest // 9)
        whole, last = divmod(rest, part) if rest else (0, 0)
        others = sorted((count for colour, count in enumerate(found.tolist()) if colour != own), reverse=True)
        assert others == ([part] * whole + [last] + [0] * 9)[:9]


def test_which_images_are_off_colour_is_drawn():
    classes = torch.zeros(1000, dtype=torch.int64)
    one, other = colours(classes, 0.9, draw(1)), colours(classes, 0.9, draw(2))
    assert torch.equal(one, colours(classes, 0.9, draw(1)))
    assert not torch.equal(one == 0, other == 0)


def test_digits_are_white_and_only_the_ground_is_coloured():
    grey = SegmentDigits(count=20).load("test").images
    grey[0, 0, 0, 0] = 1  # the faintest pixel is part of the digit
    chosen = torch.arange(20) % 10
    images = coloured(grey, chosen)
    shape = (grey > 0).expand_as(images)
    assert images.dtype == torch.uint8 and (images[shape] == 255).all()
    ground = torch.tensor(COLOURS, dtype=torch.uint8)[chosen][:, :, None, None].expand_as(images)
    assert torch.equal(images[~shape], ground[~shape])


def test_the_same_images_are_coloured_the_same_way_whatever_the_run_seed():
    torch.manual_seed(1)
    one = digits.load("train").images
    torch.manual_seed(2)
    assert torch.equal(one, digits.load("train").images)
    assert not torch.equal(one, replace(digits, seed=1).load("train").images)


def ground(images):
    """The index of the colour of each image's corner."""
    corner = (images.images[:, :, 0, 0]).long()
    return (corner[:, None] == torch.tensor(COLOURS)).all(2).int().argmax(1)


def test_all_digits_are_tested_in_their_colour_in_any_and_in_none_of_theirs():
    test = digits.load("test")
    (tests,) = test.marks
    assert tests.bincount().tolist() == [400, 400, 400]
    own = ground(test) == test.classes
    assert [float(own[tests == i].double().mean()) for i in range(3)] == [1.0, 0.1, 0.0]


def test_smaller_digits_keep_their_strokes():
    whole, half = (replace(digits, shrink=n).load("train").images for n in (1, 2))
    strokes = [(images == 255).all(1, keepdim=True).float() for images in (whole, half)]
    assert half.shape == (400, 3, 14, 14)
    assert torch.equal(torch.nn.functional.max_pool2d(strokes[0], 2), strokes[1])


def test_scores_are_kept_apart():
    right = torch.tensor([True, True, True, False, False, False])
    tests = torch.tensor([0, 0, 1, 1, 2, 2])
    assert digits.scores(right, tests, tests) == {
        "biased_accuracy": 1.0,
        "unbiased_accuracy": 0.5,
        "rho0_accuracy": 0.0,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BiasedMnist(rho=1.5), "rho=1.5: must be from 0 to 1"),
        (lambda: BiasedMnist(shrink=0), "shrink=0"),
        (lambda: Bias(bandwidth=0.0), "bandwidth=0.0: must be positive"),
        (lambda: hsic(torch.rand(3, 2), torch.rand(3, 2)), "at least 4 samples.*3 and 3"),
        (lambda: hsic(torch.rand(5, 2), torch.rand(4, 2)), "5 and 4"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# HSIC


def by_definition(k, l):  # noqa: E741
    """The U-statistic: a mean over all four different samples i, j, q, r."""
    terms = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("n", [4, 5, 7])
@pytest.mark.parametrize("bandwidth", [1.0, None])
def test_the_estimator_is_the_mean_over_all_quadruples(n, bandwidth):
    x, y = (torch.randn(n, 3, dtype=torch.float64, generator=draw(seed)) for seed in (n, 99))
    expected = by_definition(gaussian(x, bandwidth), gaussian(y, bandwidth))
    assert torch.isclose(hsic(x, y, bandwidth=bandwidth), expected, rtol=1e-10, atol=1e-14)


def test_hsic_of_independent_features_is_zero_on_average_and_negative_half_the_time():
    values = torch.stack(
        [
            hsic(*(torch.randn(16, 2, dtype=torch.float64, generator=g) for _ in range(2)))
            for g in [draw(5)]
            for _ in range(1000)
        ]
    )
    assert abs(values.mean()) < 4 * values.std() / 1000**0.5
    assert 0.4 < (values < 0).double().mean() < 0.7


@pytest.mark.parametrize("n", [4, 9, 33])
def test_the_published_codes_diagonal_comes_to_the_same(n):
    """ReBias's code takes the diagonal, as a row, from every row: ones, from all of a Gaussian kernel."""
    k, l = (gaussian(torch.randn(n, 3, dtype=torch.float64, generator=draw(seed)), 1.0) for seed in (1, 2))  # noqa: E741
    a, b = k - k.diagonal(), l - l.diagonal()
    total = torch.trace(a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * a.sum(0) @ b.sum(0) / (n - 2)
    assert torch.isclose(total / (n * (n - 3)), estimate(k, l), rtol=1e-9, atol=1e-13)


def test_hsic_grows_with_the_dependence():
    g = draw(1)
    x, noise = torch.randn(200, 2, generator=g), torch.randn(200, 2, generator=g)
    values = [hsic(x, share * x + (1 - share) * noise) for share in (0.0, 0.5, 1.0)]
    assert values[0] < values[1] < values[2]


def test_equal_features_give_finite_gradients():
    x = torch.ones(6, 3, requires_grad=True)
    for bandwidth in (1.0, None):
        (gradient,) = torch.autograd.grad(hsic(x, x.detach() * 2, bandwidth=bandwidth), x)
        assert gradient.isfinite().all()


# ReBias


def test_each_net_learns_from_its_own_loss_alone_and_g_goes_first():
    model = small.model()
    batch = next(iter(small.batches("train", batch_size=32)))
    first, second = small.objectives(model)
    assert (first.name, second.name) == ("g", "f")
    assert {id(w) for o in (first, second) for w in o.parameters} == {id(w) for w in model.parameters()}
    for objective, other in ((first, model.f), (second, model.g)):
        model.zero_grad()
        objective.loss(model, batch).backward()
        assert all(weight.grad is not None for weight in objective.parameters)
        assert all(weight.grad is None for weight in other.parameters())


def test_f_pays_for_dependence_and_g_is_paid_for_it():
    model = small.model()
    images, classes = batch = next(iter(small.batches("train", batch_size=32)))
    (wanted, features), (biased, others) = model(images, "f")
    dependence = hsic(features, others)
    f, g = (torch.nn.functional.cross_entropy(logits, classes) for logits in (wanted, biased))
    weighted = replace(small, f_weight=3.0, g_weight=2.0)
    assert torch.isclose(weighted.f_loss(model, batch), f + 3 * dependence)
    assert torch.isclose(weighted.g_loss(model, batch), g - 2 * dependence)


def test_training_batches_are_never_too_small_for_hsic_and_test_batches_are_complete():
    assert [len(classes) for _, classes in small.batches("train", batch_size=150)] == [150, 150]
    with pytest.raises(ValueError, match="batch_size=401: there are only 400 training images"):
        small.batches("train", batch_size=401)
    assert sum(len(classes) for _, classes, _ in small.batches("test", batch_size=150)) == 1200


@torch.no_grad()
def test_the_score_is_that_of_f():
    model = small.model().eval()
    images, classes, tests = next(iter(small.batches("test", batch_size=1200)))
    right = model(images).argmax(1) == classes
    found = small.score(model, small.batches("test", batch_size=50))
    assert found["unbiased_accuracy"] == pytest.approx(float(right[tests == 1].double().mean()))


# 9-class ImageNet


def test_the_nine_classes_do_not_overlap():
    members = [index for group in GROUPS.values() for index in group]
    assert len(GROUPS) == 9 and len(members) == len(set(members)) == 42


def test_the_cluster_score_is_the_mean_over_cells_that_are_large_enough():
    #          class 0, cluster 0 (4 images, 3 right) · class 0, cluster 1 (2, 0 right) · class 1, cluster 0 (3, all)
    classes = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 0])
    cluster = torch.tensor([0, 0, 0, 0, 1, 1, 0, 0, 0, -1])
    right = torch.tensor([1, 1, 1, 0, 0, 0, 1, 1, 1, 0]).bool()
    tests = torch.tensor([0] * 9 + [1])
    cells = cluster[:, None].repeat(1, RUNS)
    every = cluster_scores(right, classes, tests, cells, least=1)
    assert every["unbiased_accuracy"] == pytest.approx((0.75 + 0 + 1) / 3)
    assert (every["biased_accuracy"], every["imagenet_a_accuracy"]) == (pytest.approx(6 / 9), 0.0)
    large = cluster_scores(right, classes, tests, cells, least=3)
    assert large["unbiased_accuracy"] == pytest.approx((0.75 + 1) / 2)
    with pytest.raises(ValueError, match="no cell of class and cluster has 5 images"):
        cluster_scores(right, classes, tests, cells, least=5)


def test_textures_do_not_depend_on_where_things_are():
    torch.manual_seed(0)
    net = texture_net(None)
    assert sum(1 for m in net.modules() if isinstance(m, torch.nn.Conv2d)) == 7
    images = torch.rand(2, 3, 16, 16)
    rows = grams(net, [(torch.cat([images, images]), None)])
    assert rows.shape == (4, 256 * 256)
    assert torch.allclose(rows.norm(dim=1), torch.ones(4))
    assert torch.equal(rows[:2], rows[2:])


def test_clusters_find_what_lies_together():
    rows = torch.cat([torch.randn(20, 4, generator=draw(i)) * 0.01 + torch.eye(4)[i] for i in range(3)])
    found = clusters(rows, count=3, runs=2)
    assert found.shape == (60, 2)
    assert all(len(part.unique(dim=0)) == 1 for part in found.split(20))
    assert len(found.unique(dim=0)) == 3
    with pytest.raises(ValueError, match="2 images cannot make 3 clusters"):
        clusters(rows[:2], count=3, runs=1)


@pytest.fixture
def thousand(tmp_path, monkeypatch):
    """A thousand class folders; two of the dogs and the frogs have two images each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise = np.random.default_rng(0)

    def fill(folder, index):
        for number in range(2):
            (tmp_path / folder / f"n{index:08d}").mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"n{index:08d}" / f"{number}.png")

    blank = Image.new("RGB", (1, 1))
    for index in range(1000):
        (tmp_path / "imagenet" / "train" / f"n{index:08d}").mkdir(parents=True)
        blank.save(tmp_path / "imagenet" / "train" / f"n{index:08d}" / "0.png")
    for index in (0, 30, 31, 151, 207, 281, 306):
        fill("imagenet/val", index)
    for index in (5, 31):
        fill("imagenet-a", index)
    return tmp_path


def test_imagenet9_takes_its_classes_by_their_place_among_the_thousand(thousand, monkeypatch):
    data = ImageNet9(root=str(thousand), side=16, resize=18)
    train = data.load("train")
    assert len(train) == 42
    assert torch.tensor([c for _, c in train.samples]).bincount().tolist() == [len(g) for g in GROUPS.values()]
    with pytest.raises(ValueError, match=r"no vgg16-397923af\.pth .*528 MB"):
        data.load("test")
    torch.manual_seed(0)
    state = texture_net(None).state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, thousand / "vgg16-397923af.pth")
    test = data.load("test")
    _, classes, tests, cells = next(iter(loader(test, batch_size=99)))
    assert classes[tests == 0].bincount(minlength=9).tolist() == [4, 2, 4, 0, 0, 0, 0, 0, 2]
    assert classes[tests == 1].tolist() == [2, 2]
    assert cells.shape == (14, RUNS) and (cells[tests == 1] == -1).all() and (cells[tests == 0] >= 0).all()
    monkeypatch.setattr(
        "tangential.experiments.data.images.imagenet9.grams", None
    )  # the second time they come from the cache
    assert torch.equal(data.load("test").marks[1], cells)


def test_imagenet9_among_other_than_a_thousand_is_refused(tmp_path):
    (tmp_path / "imagenet" / "train" / "dog").mkdir(parents=True)
    Image.new("RGB", (1, 1)).save(tmp_path / "imagenet" / "train" / "dog" / "0.png")
    with pytest.raises(ValueError, match="has 1 class folders; the nine classes are defined among ImageNet's 1000"):
        ImageNet9(root=str(tmp_path)).load("train")


def test_a_foreign_file_of_weights_is_named(tmp_path):
    (tmp_path / "vgg.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"vgg\.pth is not torchvision's file of VGG-16"):
        texture_net(tmp_path / "vgg.pth")


def test_generated_marks_leave_torchs_generator_alone():
    torch.manual_seed(4)
    state = torch.get_rng_state()
    GeneratedImageNet9().load("test")
    assert torch.equal(torch.get_rng_state(), state)
