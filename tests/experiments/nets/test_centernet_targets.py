"""CenterNet's targets, losses and decoding: by hand, and unchanged by flips, shifts and scale."""

import math

import pytest
import torch

from tangential.experiments.nets.centernet_targets import (
    SIZE_WEIGHT,
    Targets,
    decode,
    focal_loss,
    gaussian_radius,
    losses,
    make_targets,
)

CLASSES, SHAPE, STRIDE = 3, (24, 32), 4


def corners(*boxes):
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def drawn(boxes, labels, stride=STRIDE, shape=SHAPE):
    return make_targets([boxes], [torch.tensor(labels, dtype=torch.long)], classes=CLASSES, shape=shape, stride=stride)


def some_boxes(generator, count=4):
    """Boxes whose centres lie 8 cells apart, none of them on the edge of a cell."""
    places = torch.randperm(12, generator=generator)[:count]
    centre = torch.stack([places % 4, places // 4], dim=1) * 32 + 14 + 4 * torch.rand(count, 2, generator=generator)
    half = 3 + 9 * torch.rand(count, 2, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return torch.cat([centre - half, centre + half], dim=1).double(), labels.tolist()


def maps_of(truth):
    """The maps of a network that is right: certain at the centres, and its numbers only there."""
    logits = (truth.heatmap.clamp(1e-6, 1 - 1e-6)).logit()
    sizes, offsets = (truth.heatmap.new_zeros(len(truth.heatmap), 2, *truth.heatmap.shape[-2:]) for _ in range(2))
    image, row, column = truth.cells.unbind(1)
    sizes[image, :, row, column], offsets[image, :, row, column] = truth.sizes, truth.offsets
    return logits, sizes, offsets


def in_order(boxes):
    return torch.stack(sorted(boxes.unbind(), key=torch.Tensor.tolist))


def test_radius_is_that_of_cornernets_formula():
    # by hand for 10 x 20: (30 + sqrt(758.8)) / 2, (60 + sqrt(2640)) / 2 and (-42 + sqrt(2436)) / 2, the least of them
    radius = gaussian_radius(torch.tensor(10.0, dtype=torch.float64), torch.tensor(20.0, dtype=torch.float64))
    assert radius.item() == pytest.approx((-42 + math.sqrt(42**2 + 4 * 0.7 * 4 * 0.3 * 200)) / 2, rel=1e-12)


def test_radius_grows_with_the_box_and_does_not_tell_height_from_width():
    height, width = torch.rand(2, 50, dtype=torch.float64) * 40 + 1
    assert torch.allclose(gaussian_radius(2 * height, 2 * width), 2 * gaussian_radius(height, width))
    assert torch.equal(gaussian_radius(height, width), gaussian_radius(width, height))
    assert (gaussian_radius(height, width) >= 0).all()


def test_peak_stands_at_the_centre_with_size_and_offset():
    truth = drawn(corners([10, 20, 37, 34]), [2])
    # the centre (23.5, 27) is cell (5, 6) and 0.875, 0.75 of a cell further
    assert truth.cells.tolist() == [[0, 6, 5]]
    assert truth.sizes.tolist() == [[6.75, 3.5]]
    assert truth.offsets.tolist() == [[0.875, 0.75]]
    assert truth.heatmap[0, 2, 6, 5] == 1
    assert (truth.heatmap == 1).sum() == 1
    assert truth.heatmap[0, :2].count_nonzero() == 0


def test_bell_has_the_radius_of_its_box_and_a_sixth_of_its_width_as_deviation():
    truth = drawn(corners([0, 0, 80, 80]), [0])  # 20 x 20 cells
    radius = int(gaussian_radius(torch.tensor(20.0), torch.tensor(20.0)))
    assert radius == 5
    row = truth.heatmap[0, 0, 10]
    expected = [math.exp(-(dx**2) / (2 * ((2 * radius + 1) / 6) ** 2)) for dx in range(-radius, radius + 1)]
    assert torch.allclose(row[10 - radius : 11 + radius], torch.tensor(expected, dtype=torch.float64))
    assert row[: 10 - radius].count_nonzero() == row[11 + radius :].count_nonzero() == 0


def test_bells_of_one_class_merge_by_the_higher_one():
    boxes = corners([0, 0, 60, 60], [16, 0, 76, 60])
    both, first, second = drawn(boxes, [1, 1]), drawn(boxes[:1], [1]), drawn(boxes[1:], [1])
    assert torch.equal(both.heatmap, torch.maximum(first.heatmap, second.heatmap))
    assert (both.heatmap == 1).sum() == 2


def test_box_of_less_than_a_cell_is_a_single_cell():
    truth = drawn(corners([9, 9, 10, 10]), [0])
    assert truth.heatmap.sum() == truth.heatmap[0, 0, 2, 2] == 1


def test_images_without_things_have_no_peaks():
    truth = make_targets(
        [corners(), corners([4, 4, 8, 8])],
        [torch.zeros(0, dtype=torch.long), torch.tensor([1])],
        classes=CLASSES,
        shape=SHAPE,
        stride=STRIDE,
    )
    assert truth.heatmap[0].count_nonzero() == 0
    assert truth.cells.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_targets_follow_a_flip(seed):
    boxes, labels = some_boxes(torch.Generator().manual_seed(seed))
    width = SHAPE[1] * STRIDE
    flipped = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
    before, after = drawn(boxes, labels), drawn(flipped, labels)
    assert torch.allclose(after.heatmap, before.heatmap.flip(-1))
    assert torch.allclose(after.sizes, before.sizes)
    assert torch.allclose(after.offsets[:, 0], 1 - before.offsets[:, 0])
    assert torch.allclose(after.offsets[:, 1], before.offsets[:, 1])


def test_targets_follow_a_shift_by_whole_cells():
    boxes = corners([20, 20, 50, 41])
    before, after = drawn(boxes, [1]), drawn(boxes + torch.tensor([3, 2, 3, 2]) * STRIDE, [1])
    assert torch.equal(after.heatmap, before.heatmap.roll((2, 3), dims=(-2, -1)))
    assert torch.equal(after.sizes, before.sizes) and torch.allclose(after.offsets, before.offsets)


@pytest.mark.parametrize("scale", [2, 8])
def test_targets_do_not_see_a_scale_that_the_stride_shares(scale):
    boxes, labels = some_boxes(torch.Generator().manual_seed(0))
    before, after = drawn(boxes, labels), drawn(boxes * scale, labels, stride=STRIDE * scale)
    assert torch.equal(after.heatmap, before.heatmap) and torch.equal(after.sizes, before.sizes)


def test_focal_loss_by_hand():
    heat = torch.tensor([[[[1.0, 0.5, 0.0]]]], dtype=torch.float64)
    p = torch.tensor([0.8, 0.3, 0.1], dtype=torch.float64)
    expected = -(0.2**2 * math.log(0.8) + 0.5**4 * 0.3**2 * math.log(0.7) + 0.1**2 * math.log(0.9))
    assert focal_loss(p.logit().reshape(1, 1, 1, 3), heat).item() == pytest.approx(expected, rel=1e-12)


def test_focal_loss_is_per_centre_and_finite_without_one():
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    heat = torch.zeros_like(logits)
    without = focal_loss(logits, heat)
    p = logits.sigmoid()
    assert without.item() == pytest.approx(-(p.square() * (1 - p).log()).sum().item(), rel=1e-12)
    heat[0, 0, 0, :2] = 1
    doubled = focal_loss(torch.cat([logits, logits]), torch.cat([heat, heat]))
    assert torch.allclose(doubled, focal_loss(logits, heat))  # twice the batch, twice the centres


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_focal_loss_and_its_gradient_stay_finite(extreme):
    logits = torch.full((1, 1, 2, 2), extreme, requires_grad=True)
    loss = focal_loss(logits, torch.eye(2)[None, None])
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_size_and_offset_losses_by_hand():
    truth = drawn(corners([10, 20, 37, 34], [60, 60, 80, 70]), [2, 0])
    logits, sizes, offsets = maps_of(truth)
    sizes[:, 0] += 0.5  # both objects' widths are off by 0.5, everything else is right
    offsets[0, 1, 6, 5] -= 0.25  # one object's offset in y is off
    found = losses(logits, sizes, offsets, truth)
    assert found["size"].item() == pytest.approx(SIZE_WEIGHT * (0.5 + 0.5) / (4 + 1e-4), rel=1e-9)
    assert found["offset"].item() == pytest.approx(0.25 / (4 + 1e-4), rel=1e-9)


def test_losses_without_things_have_a_gradient_of_zero_for_sizes():
    truth = drawn(corners(), [])
    maps = [torch.randn(1, n, *SHAPE, dtype=torch.float64, requires_grad=True) for n in (CLASSES, 2, 2)]
    sum(losses(*maps, truth).values()).backward()
    assert maps[0].grad.abs().sum() > 0
    assert maps[1].grad.abs().sum() == maps[2].grad.abs().sum() == 0


def test_right_maps_cost_nothing_but_the_clamp():
    boxes, labels = some_boxes(torch.Generator().manual_seed(1))
    truth = drawn(boxes, labels)
    sharp = Targets((truth.heatmap == 1).double(), truth.cells, truth.sizes, truth.offsets)
    found = losses(*maps_of(sharp), sharp)
    assert found["size"] == found["offset"] == 0
    # p is clamped to 1e-4 from 0 and 1, which leaves 1e-12 a cell and 1e-12 a centre
    assert found["heat"] < 1e-8


@pytest.mark.parametrize("seed", range(10))
def test_right_maps_decode_to_the_true_boxes(seed):
    boxes, labels = some_boxes(torch.Generator().manual_seed(seed))
    logits, sizes, offsets = maps_of(drawn(boxes, labels))
    (found,) = decode(logits.sigmoid(), sizes, offsets, stride=STRIDE)
    sure = found["scores"] > 0.9
    assert sure.sum() == len(boxes)
    assert torch.allclose(in_order(found["boxes"][sure]), in_order(boxes), rtol=0, atol=1e-10)
    assert sorted(found["labels"][sure].tolist()) == sorted(labels)


def test_boxes_come_best_first_and_no_more_than_asked():
    heat = torch.rand(2, CLASSES, *SHAPE)
    for found in decode(heat, torch.ones(2, 2, *SHAPE), torch.zeros(2, 2, *SHAPE), stride=STRIDE, top=7):
        assert found["boxes"].shape == (7, 4)
        assert torch.equal(found["scores"], found["scores"].sort(descending=True).values)
    (few,) = decode(torch.rand(1, 1, 2, 2), torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), stride=STRIDE, top=100)
    assert len(few["scores"]) == 4


def test_neighbours_of_a_peak_are_no_boxes():
    heat = torch.zeros(1, 1, 5, 5)
    heat[0, 0, 1:4, 1:4] = 0.5
    heat[0, 0, 2, 2] = 0.9
    (found,) = decode(heat, torch.ones(1, 2, 5, 5), torch.zeros(1, 2, 5, 5), stride=STRIDE)
    assert (found["scores"] > 0).sum() == 1


def test_decoding_follows_a_flip():
    generator = torch.Generator().manual_seed(3)
    heat, sizes = (torch.rand(1, n, *SHAPE, generator=generator, dtype=torch.float64) for n in (CLASSES, 2))
    offsets = torch.rand(1, 2, *SHAPE, generator=generator, dtype=torch.float64)
    mirrored = torch.stack([1 - offsets[:, 0], offsets[:, 1]], dim=1).flip(-1)
    (before,) = decode(heat, sizes, offsets, stride=STRIDE, top=20)
    (after,) = decode(heat.flip(-1), sizes.flip(-1), mirrored, stride=STRIDE, top=20)
    width = SHAPE[1] * STRIDE
    flipped = torch.tensor([width, 0, width, 0]) + before["boxes"] * torch.tensor([-1, 1, -1, 1])
    assert torch.allclose(after["boxes"][:, [2, 1, 0, 3]], flipped)
    assert torch.equal(after["labels"], before["labels"])
