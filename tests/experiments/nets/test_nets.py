"""Networks: their sizes, shapes, what they see, and which of their weights are scale-invariant."""

from functools import partial

import pytest
import torch
from torch import nn

from tangential import find_invariances
from tangential.experiments.nets.bagnet import bagnet18
from tangential.experiments.nets.by_name import by_name, cifar_resnet18
from tangential.experiments.nets.normalized import Normalized, normalized
from tangential.experiments.nets.rebias import BodyAndHead, ReBias
from tangential.experiments.nets.resnet import resnet
from tangential.experiments.nets.simple_conv import simple_conv_net
from tangential.experiments.nets.wide_resnet import wide_resnet

pytestmark = pytest.mark.slow

rgb = {"channels": 3, "classes": 10}
NETS = {
    "resnet": partial(resnet, depth=8, width=4),
    "wide-conv": partial(wide_resnet, depth=10, width=1, shortcut="conv"),
    "wide-pool": partial(wide_resnet, depth=10, width=1, shortcut="pool"),
    "bagnet": bagnet18,
    "simple": partial(simple_conv_net, kernel=3, width=4),
}


def size(net):
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("depth", "width", "millions"), [(16, 10, 17.1), (34, 10, 46.2), (28, 10, 36.5), (16, 4, 2.7), (40, 4, 8.9)]
)
def test_wide_resnets_have_the_published_sizes(depth, width, millions):
    with torch.device("meta"):
        net = wide_resnet(**rgb, depth=depth, width=width)
    assert size(net) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_small_resnets_have_the_published_sizes(depth, millions):
    with torch.device("meta"):
        assert size(resnet(**rgb, depth=depth)) / 1e6 == pytest.approx(millions, abs=0.01)


def test_pooled_shortcuts_have_no_weights():
    with torch.device("meta"):
        conv, pool = (wide_resnet(**rgb, depth=34, width=10, shortcut=kind) for kind in ("conv", "pool"))
    assert size(conv) - size(pool) == 16 * 160 + 160 * 320 + 320 * 640


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", [20, 32])
def test_nets_answer_images_of_any_size(name, side):
    for channels in (1, 3):
        net = NETS[name](channels=channels, classes=7)
        assert net(torch.rand(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize("shortcut", ["conv", "pool"])
def test_a_wide_block_is_its_shortcut_where_its_last_convolution_is_zero(shortcut):
    net = wide_resnet(**rgb, depth=10, width=2, shortcut=shortcut).eval()
    block, x = net[2], torch.randn(2, 32, 8, 8)
    nn.init.zeros_(block.conv2.weight)
    if shortcut == "pool":
        expected = torch.cat([torch.zeros(2, 16, 4, 4), nn.functional.avg_pool2d(x, 2), torch.zeros(2, 16, 4, 4)], 1)
    else:
        expected = block.shortcut(torch.relu(block.bn1(x)))
    assert torch.equal(block(x), expected)


def seen(body, side=33):
    """Height and width of the pixels that one feature in the middle depends on."""
    images = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    features = body.double().eval()(images)
    middle = features.shape[-1] // 2
    features[0, :, middle, middle].sum().backward()
    rows, columns = images.grad[0].abs().sum(0).nonzero().unbind(1)
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def test_bagnet_sees_five_pixels_and_the_simple_net_as_many_as_its_kernels_reach():
    assert seen(bagnet18(channels=3, classes=9)[:-3]) == (5, 5)
    assert seen(simple_conv_net(**rgb, kernel=7, width=2)[:-3]) == (25, 25)
    assert seen(simple_conv_net(**rgb, kernel=1, width=2)[:-3]) == (1, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(**rgb, depth=9), "depth=9: must be 8, 14, 20"),
        (lambda: resnet(**rgb, width=0), "width=0"),
        (lambda: wide_resnet(**rgb, depth=12), "depth=12: must be 10, 16, 22"),
        (lambda: wide_resnet(**rgb, width=0), "width=0"),
        (lambda: wide_resnet(**rgb, shortcut="none"), "must be one of conv, pool"),
        (lambda: bagnet18(channels=3, classes=0), "classes=0"),
        (lambda: simple_conv_net(**rgb, kernel=2), "kernel=2: must be odd"),
        (lambda: by_name(**rgb, name="resnet81"), r"no such model; near ones are .*resnet"),
        (lambda: by_name(**rgb, name="timm:resnet_eighteen"), "no such model; "),
        (lambda: by_name(**rgb, name="keras:resnet18"), "must be torchvision or timm"),
        (lambda: by_name(channels=1, classes=2, name="resnet18"), "take 3 channels, not 1; try timm:resnet18"),
        (lambda: by_name(**rgb, name="resnet18", depth=3), "unexpected keyword"),
        (lambda: Normalized(nn.Identity(), (0.5,), (0.0,)), "std positive"),
        (lambda: BodyAndHead(nn.Conv2d(1, 1, 1)), "no linear layer"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "settings", "side"),
    [
        ("mobilenet_v2", {}, 32),
        ("vgg11_bn", {}, 32),
        ("vit_b_32", {"image_size": 32}, 32),
        ("timm:resnet10t", {}, 32),
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 1}, 32),
    ],
)
def test_models_are_made_by_name(name, settings, side):
    net = by_name(channels=3, classes=5, name=name, **settings).eval()
    assert net(torch.rand(2, 3, side, side)).shape == (2, 5)


def test_the_small_image_resnet_keeps_the_resolution_of_its_first_convolution():
    net = cifar_resnet18(channels=1, classes=10)
    with torch.no_grad():
        assert net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(torch.rand(1, 1, 8, 8)))))).shape == (1, 64, 8, 8)


def test_normalised_images_have_mean_0_and_deviation_1():
    images = 0.3 + 0.2 * torch.randn(1000, 1, 4, 4)
    out = Normalized(nn.Identity(), (0.3,), (0.2,))(images)
    assert abs(out.mean()) < 0.02 and abs(out.std() - 1) < 0.02
    net = nn.Identity()
    assert normalized(net, (), ()) is net
    assert Normalized(net, (0.3,), (0.2,)).state_dict() == {}


@pytest.mark.parametrize("name", NETS)
def test_a_net_cut_before_its_head_answers_the_same(name):
    torch.manual_seed(0)
    net = NETS[name](**rgb).eval()
    images = torch.rand(2, 3, 20, 20)
    expected = net(images)
    logits, features = BodyAndHead(net).eval()(images)
    assert torch.equal(logits, expected)
    assert features.ndim == 2


def test_a_pair_is_its_first_net_and_lets_gradients_through_the_learner_only():
    pair = ReBias(NETS["simple"](**rgb), NETS["simple"](**rgb), mean=(0.5,) * 3, std=(0.5,) * 3)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(pair.eval()(images), pair.f(images)[0])
    for learner in ("f", "g"):
        (wanted, _), (biased, _) = pair(images, learner)
        assert (wanted.requires_grad, biased.requires_grad) == (learner == "f", learner == "g")
    with torch.no_grad():
        assert not any(logits.requires_grad for logits, _ in pair(images, "f"))


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("resnet", {"8.weight"}),  # the head
        (
            "wide-conv",
            {"0.weight", "8.weight", *(f"{n}.conv2.weight" for n in "123"), *(f"{n}.shortcut.weight" for n in "23")},
        ),
        ("simple", {"14.weight"}),
    ],
)
def test_the_convolutions_before_a_batchnorm_are_scale_invariant(name, variant):
    torch.manual_seed(0)
    net = NETS[name](**rgb)
    found = find_invariances(net, torch.rand(4, 3, 16, 16))
    weights = {name: found[name] for name, weight in net.named_parameters() if weight.ndim > 1}
    assert {name for name, blocks in weights.items() if blocks is None} == variant
