"""The detectors: shapes, laws of their losses and boxes, weights from files, and what is scale-invariant in them."""

import urllib.error
from functools import partial

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.detection.image_list import ImageList
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import box_iou

from tangential import find_invariances
from tangential.experiments.nets.backbones import resnet_backbone, vgg16_backbone
from tangential.experiments.nets.centernet import centernet, deformable_neck, plain_neck
from tangential.experiments.nets.pretrained import pretrained
from tangential.experiments.nets.ssd import CONFIGS, ssd_resnet, ssd_vgg16

pytestmark = pytest.mark.slow

NECKS = {"plain": partial(plain_neck), "deformable": partial(deformable_neck)}
NETS = {
    **{f"centernet-{name}": partial(centernet, size=64, width=4, blocks=1, neck=neck) for name, neck in NECKS.items()},
    "ssd-resnet": partial(ssd_resnet, size=64, width=4, blocks=1),
}


def boxes(*rows, labels=()):
    return {
        "boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.long),
    }


def a_batch(size=64):
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(1))
    s = size / 64
    rows = [boxes([5 * s, 5 * s, 30 * s, 28 * s], [32 * s, 30 * s, 60 * s, 61 * s], labels=[1, 2])] * 2
    return images, [*rows, boxes(), boxes([2 * s, 8 * s, 50 * s, 60 * s], labels=[3])]


def total(losses):
    return sum(losses.values())


@pytest.mark.parametrize("name", NETS)
def test_loss_falls_and_boxes_stay_finite(name):
    model = NETS[name](classes=3)
    images, targets = a_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(20):
        losses.append(total(model(images, targets)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        found = model.eval()(images)
    assert len(found) == 4
    for each in found:
        assert each["boxes"].isfinite().all() and each["labels"].ge(1).all() and each["labels"].le(3).all()
        assert each["scores"].ge(0).all() and each["scores"].le(1).all()


@pytest.mark.parametrize("name", NETS)
def test_batch_without_a_single_thing_has_finite_gradients(name):
    model = NETS[name](classes=3)
    total(model(a_batch()[0], [boxes()] * 4)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_centernet_refuses_what_it_cannot_take():
    model = centernet(classes=3, size=64, width=4, blocks=1)
    with pytest.raises(ValueError, match=r"images of \(64, 70\) pixels: both sides must be multiples of 32"):
        model(torch.zeros(1, 3, 64, 70))
    with pytest.raises(ValueError, match="needs targets in training"):
        model(torch.zeros(1, 3, 64, 64))
    for settings, message in (({"size": 100}, "size=100"), ({"classes": 0}, "classes=0"), ({"width": 0}, "width=0")):
        with pytest.raises(ValueError, match=message):
            centernet(**{"classes": 3, "size": 64, **settings})


@pytest.mark.parametrize("neck", NECKS)
def test_centernets_widths_are_the_papers(neck):
    model = centernet(classes=80, size=512, neck=NECKS[neck])
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    ups = [shape[1] for shape in shapes.values() if len(shape) == 4 and shape[2:] == (4, 4)]
    assert ups == {"plain": [256, 256, 256], "deformable": [256, 128, 64]}[neck]
    assert shapes["heat.2.weight"] == (80, 64, 1, 1)
    assert torch.equal(model.heat[2].bias, torch.full((80,), -2.19))
    assert model.size[2].weight.detach().std() == pytest.approx(0.001, rel=0.3)


def test_deformable_neck_starts_as_interpolation():
    neck, channels = deformable_neck(8, 4)
    up = neck[0][3]
    ramp = torch.arange(6.0).expand(1, 16, 6, 6)
    doubled = up(ramp)[:, :, 3:-3, 3:-3]  # away from the border, where zeros come in
    assert channels == 4
    assert torch.allclose(doubled.diff(dim=-1), torch.full((), 0.5)) and doubled.diff(dim=-2).abs().max() < 1e-6


def test_average_with_the_mirror_image_does_not_see_a_flip():
    model = centernet(classes=3, size=64, width=4, blocks=1, neck=NECKS["plain"], flip_test=True).eval()
    for step in model.neck:  # else the maps are flat, and which of many equal cells is highest is chance
        torch.nn.init.kaiming_normal_(step[0].weight)
    torch.nn.init.normal_(model.size[2].weight)
    torch.nn.init.zeros_(model.offset[2].weight)
    torch.nn.init.constant_(model.offset[2].bias, 0.5)  # the offsets are not averaged
    images = a_batch()[0][:1]
    with torch.no_grad():
        (one,), (other,) = model(images), model(images.flip(-1))
    assert torch.allclose(one["scores"], other["scores"], atol=1e-5)
    mirrored = torch.tensor([64.0, 0, 64, 0]) + other["boxes"][:5, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1])
    assert torch.allclose(one["boxes"][:5], mirrored, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "cells", "count"), [(300, [38, 19, 10, 5, 3, 1], 8732), (512, [64, 32, 16, 8, 4, 2, 1], 24564)]
)
def test_ssd_looks_where_the_original_does(size, cells, count):
    model = ssd_vgg16(classes=3, size=size, width=2).eval()
    maps = list(model.backbone(torch.zeros(1, 3, size, size)).values())
    assert [each.shape[-1] for each in maps] == cells
    config = CONFIGS[size]
    pixels = [round(scale * size, 2) for scale in config.scales]
    assert (
        pixels
        == {300: [21, 45, 99, 153, 207, 261, 315], 512: [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72]}[
            size
        ]
    )
    per_cell = [2 + 2 * len(each) for each in config.ratios]
    assert sum(n * side**2 for n, side in zip(per_cell, cells, strict=True)) == count
    assert model.head(maps)["bbox_regression"].shape == (1, count, 4)


def test_first_map_of_ssd_has_columns_of_length_twenty():
    features = ssd_vgg16(classes=3, size=300, width=2).backbone
    first = features(torch.rand(1, 3, 300, 300))["0"]
    lengths = first.norm(dim=1)
    assert torch.allclose(lengths[lengths > 0], torch.tensor(20.0), rtol=1e-4)


def anchors_of(model, size):
    images = torch.zeros(1, 3, size, size)
    return model.anchor_generator(ImageList(images, [(size, size)]), list(model.backbone(images).values()))[0]


@pytest.mark.parametrize("seed", range(3))
def test_right_outputs_of_ssd_decode_to_the_true_boxes(seed):
    model = NETS["ssd-resnet"](classes=3).eval()
    anchors = anchors_of(model, 64)
    draw = torch.Generator().manual_seed(seed)
    corner = torch.tensor([[2.0, 3], [34, 2], [4, 36]]) + 4 * torch.rand(3, 2, generator=draw)
    true = torch.cat([corner, corner + 12 + 12 * torch.rand(3, 2, generator=draw)], dim=1)
    labels = torch.randint(1, 4, (3,), generator=draw)
    matched = model.proposal_matcher(box_iou(true, anchors))
    logits = torch.zeros(1, len(anchors), 4)
    logits[0, torch.arange(len(anchors)), torch.where(matched >= 0, labels[matched.clamp(min=0)], 0)] = 30
    wanted = model.box_coder.encode_single(true[matched.clamp(min=0)], anchors)
    outputs = {"bbox_regression": wanted[None], "cls_logits": logits}
    (found,) = model.postprocess_detections(outputs, [anchors], [(64, 64)])
    assert len(found["boxes"]) == 3
    order, expected = (
        found["boxes"][:, 0].mul(1000).add(found["boxes"][:, 1]).argsort(),
        true[:, 0].mul(1000).add(true[:, 1]).argsort(),
    )
    assert torch.allclose(found["boxes"][order], true[expected], atol=1e-3)
    assert torch.equal(found["labels"][order], labels[expected])
    losses = model.train().compute_loss([{"boxes": true, "labels": labels}], outputs, [anchors], [matched])
    assert losses["bbox_regression"] < 1e-6 and losses["classification"] < 1e-6


def test_ssd_losses_by_hand():
    model = NETS["ssd-resnet"](classes=1)
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50], [50, 0, 60, 10], [0, 50, 10, 60]])
    target = {"boxes": torch.tensor([[1.0, 0, 11, 10]]), "labels": torch.tensor([1])}
    matched = torch.tensor([0, -1, -1, -1, -1])
    logits = torch.tensor([[0.0, 0], [0, 1], [0, 2], [0, 3], [0, -1]])
    outputs = {"bbox_regression": torch.zeros(1, 5, 4), "cls_logits": logits[None]}
    losses = model.compute_loss([target], outputs, [anchors], [matched])
    # the centre is off by a tenth of the anchor's width, 1 when divided by the variance of 0.1: smooth L1 gives 0.5
    assert losses["bbox_regression"].item() == pytest.approx(0.5)
    # one positive, so the three worst of four negatives
    worst = [torch.tensor(x).exp().add(1).log().item() for x in (0.0, 1.0, 2.0, 3.0)]
    assert losses["classification"].item() == pytest.approx(sum(worst), rel=1e-6)


def test_resnet_stages_are_torchvisions(tmp_path):
    reference = resnet18()
    torch.save(reference.state_dict(), tmp_path / "weights.pt")
    ours = resnet_backbone(weights=str(tmp_path / "weights.pt"))
    images = torch.randn(2, 3, 64, 64)
    x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images))))
    for layer, found in zip(
        (reference.layer1, reference.layer2, reference.layer3, reference.layer4), ours(images)[1:], strict=True
    ):
        x = layer(x)
        assert torch.equal(found, x)


def test_vgg_stages_are_torchvisions_but_for_the_pooling_that_rounds_up(tmp_path):
    reference = make_layers(cfgs["D"], batch_norm=True)  # vgg16_bn without its classifier of 480 MB
    state = {f"features.{name}": each for name, each in reference.state_dict().items()}
    torch.save(state | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "weights.pt")
    ours = vgg16_backbone(weights=str(tmp_path / "weights.pt"))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(images)[1], reference[:-1](images))


@pytest.mark.parametrize(
    ("width", "what"), [(32, "is .64, 3, 7, 7. there, the network needs .32, 3, 7, 7."), (64, "is nothing there")]
)
def test_weights_of_another_network_are_refused(tmp_path, width, what):
    state = resnet18().state_dict()
    if width == 64:
        del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"weights.pt: .* {what}"):
        resnet_backbone(width=width, weights=str(tmp_path / "weights.pt"))


@pytest.mark.parametrize("content", [b"", b"nothing", {"epoch": 3}])
def test_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"weights=.*weights.pt: (torch cannot read|the file holds no state_dict)"):
        pretrained(str(path), "resnet18")


def test_weights_that_cannot_be_downloaded_are_said_in_one_line(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        ValueError, match=r"https://\S*resnet18\S* cannot be downloaded .*fetch it elsewhere and give weights=FILE"
    ):
        centernet(classes=3, size=64, weights="ResNet18_Weights.IMAGENET1K_V1")


def kinds(model):
    found = find_invariances(model, *a_batch())
    return found, {name: found.verdict(name).kind for name in found if len(found.verdict(name).shape) > 1}


@pytest.mark.parametrize("neck", NECKS)
def test_backbone_and_neck_of_centernet_are_scale_invariant_and_its_heads_are_not(neck):
    model = NETS[f"centernet-{neck}"](classes=3)
    if neck == "plain":
        for step in model.neck:
            torch.nn.init.kaiming_normal_(step[0].weight)
    found, kind = kinds(model)
    for name, value in kind.items():
        head, where = name.split(".")[0] in ("heat", "size", "offset"), ".where." in name
        assert value == ("none" if head or where else "channel"), name
    ups = [name for name in kind if found.verdict(name).shape[2:] == (4, 4)]
    assert [found[name].dim for name in ups] == [1, 1, 1]  # a transposed convolution's outputs are dimension 1


def test_plain_neck_starts_so_small_that_the_norms_epsilon_is_felt():
    # CenterNet draws these weights with a deviation of 0.001; the variance after them is that of the epsilon, 1e-5
    with pytest.warns(UserWarning, match=r"3 of the scale-invariant weights .* neck.0.0.weight"):
        _, kind = kinds(NETS["centernet-plain"](classes=3))
    assert kind["neck.0.0.weight"] == "channel"


def test_small_ssd_is_scale_invariant_but_for_its_heads():
    _, kind = kinds(NETS["ssd-resnet"](classes=3))
    # the last BatchNorm sees 4 values a channel: nothing there is vague
    assert {value for name, value in kind.items() if name.startswith("backbone.")} == {"channel"}
    assert not {value for name, value in kind.items() if name.startswith("head.")} & {"channel", "layer"}


def test_ssd_on_vgg_is_scale_invariant_up_to_its_last_norm():
    model = ssd_vgg16(classes=3, size=300, width=2)
    found = find_invariances(model, *a_batch(300))
    kind = {name: found.verdict(name).kind for name in found if len(found.verdict(name).shape) == 4}
    backbone = {name for name in kind if name.startswith("backbone.backbone.")}
    assert len(backbone) == 13
    assert {kind[name] for name in backbone} == {"channel"}
    assert not {kind[name] for name in kind if name not in backbone} & {"channel", "layer"}
