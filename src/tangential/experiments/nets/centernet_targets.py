"""Objects as points: CenterNet's targets, losses and decoding (arXiv 1904.07850).

An object is a peak at its box's centre in the heat map of its class; the box's size and what rounding took from the
centre stand in further maps at the peak's cell. Sizes and offsets are in cells, boxes in pixels of the network's input,
`stride` pixels a cell. Classes count from 0 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, max_pool2d

SIZE_WEIGHT = 0.1


@dataclass(frozen=True)
class Peaks:
    """What the maps of a batch ought to be.

    Args:
        heat: `(batch, classes, height, width)`, from 0 to 1; exactly 1 at the centres.
        cells: `(objects, 3)`: image, row and column of each object.
        sizes: `(objects, 2)`: width and height, in cells.
        offsets: `(objects, 2)`: centre minus its cell, x and y, in cells from 0 to 1.
    """

    heat: Tensor
    cells: Tensor
    sizes: Tensor
    offsets: Tensor


def gaussian_radius(height: Tensor, width: Tensor, overlap: float = 0.7) -> Tensor:
    """Say how far a box's corners may move with the box still overlapping the true one, by CornerNet's formula.

    The roots are those of CornerNet's code, which CenterNet kept: `(b + sqrt(b^2 - 4ac)) / 2` in all three cases, where
    the quadratic formula divides by `2a`. Their smallest is what trained both papers' networks.

    Args:
        height: Of the boxes, any shape.
        width: Of the boxes, the same shape.
        overlap: The intersection over union that is enough.

    Returns:
        The radii, the same shape, not rounded.

    Example:
        >>> round(gaussian_radius(torch.tensor(10.0), torch.tensor(20.0)).item(), 3)
        3.678
    """
    around, area = height + width, height * width
    shifted = _root(around, 4 * area * (1 - overlap) / (1 + overlap))
    inside = _root(2 * around, 16 * area * (1 - overlap))
    outside = _root(-2 * overlap * around, 16 * overlap * area * (overlap - 1))
    return torch.minimum(torch.minimum(shifted, inside), outside)


def _root(b: Tensor, four_ac: Tensor) -> Tensor:
    return (b + (b.square() - four_ac).sqrt()) / 2


def peaks(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], *, classes: int, shape: tuple[int, int], stride: int
) -> Peaks:
    """Draw the peaks of a batch.

    Args:
        boxes: Per image `(objects, 4)`: left, top, right, bottom, in pixels, with an area and inside the image.
        labels: Per image `(objects,)`, from 0.
        classes: How many classes there are.
        shape: Height and width of the maps, in cells.
        stride: Pixels per cell.

    Example:
        >>> box, label = torch.tensor([[8.0, 8.0, 16.0, 12.0]]), torch.tensor([1])
        >>> found = peaks([box], [label], classes=2, shape=(8, 8), stride=4)
        >>> found.cells.tolist(), found.sizes.tolist(), found.offsets.tolist()
        ([[0, 2, 3]], [[2.0, 1.0]], [[0.0, 0.5]])
        >>> found.heat[0, 1, 2, 3].item(), found.heat[0, 0].sum().item()
        (1.0, 0.0)
    """
    cells, sizes, offsets = [], [], []
    heat = boxes[0].new_zeros(len(boxes), classes, *shape)
    for image, (corners, kinds) in enumerate(zip(boxes, labels, strict=True)):
        corners = corners / stride
        size, centre = corners[:, 2:] - corners[:, :2], (corners[:, 2:] + corners[:, :2]) / 2
        column_row = centre.floor()
        radius = gaussian_radius(size[:, 1].ceil(), size[:, 0].ceil()).floor().clamp(min=0)
        bells = _gaussians(column_row, radius, shape)
        heat[image].scatter_reduce_(0, kinds[:, None, None].expand_as(bells), bells, "amax")
        sizes.append(size)
        offsets.append(centre - column_row)
        cells.append(torch.cat([kinds.new_full((len(kinds), 1), image), column_row.flip(1).long()], dim=1))
    return Peaks(heat, torch.cat(cells), torch.cat(sizes), torch.cat(offsets))


def _gaussians(centres: Tensor, radius: Tensor, shape: tuple[int, int]) -> Tensor:
    """Draw one bell per centre `(objects, 2)`, cut off at a square of its radius: `(objects, height, width)`."""
    dx = torch.arange(shape[1], device=centres.device) - centres[:, 0, None, None]
    dy = torch.arange(shape[0], device=centres.device)[:, None] - centres[:, 1, None, None]
    radius = radius[:, None, None]
    sigma = (2 * radius + 1) / 6
    inside = (dx.abs() <= radius) & (dy.abs() <= radius)
    return torch.exp(-(dx.square() + dy.square()) / (2 * sigma.square())) * inside


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Compare predicted heat with the peaks: cross-entropy that forgives what is nearly right, and near-misses.

    Args:
        logits: `(batch, classes, height, width)`.
        heat: The same shape, as `Peaks.heat`.

    Returns:
        The sum over all cells, divided by the number of centres if there are any; a tensor without dimensions.
    """
    p = logits.to(heat.dtype).sigmoid().clamp(1e-4, 1 - 1e-4)
    centre = heat == 1
    at_centre = (1 - p).square() * p.log()
    elsewhere = (1 - heat).pow(4) * p.square() * (1 - p).log()
    return -torch.where(centre, at_centre, elsewhere).sum() / centre.sum().clamp(min=1)


def losses(logits: Tensor, sizes: Tensor, offsets: Tensor, truth: Peaks) -> dict[str, Tensor]:
    """Compare the maps of a batch with what they ought to be.

    Args:
        logits: `(batch, classes, height, width)`.
        sizes: `(batch, 2, height, width)`.
        offsets: `(batch, 2, height, width)`.
        truth: The peaks.

    Returns:
        `heat`, `size` (a tenth of the mean absolute error) and `offset`, which add up to the loss.
    """
    image, row, column = truth.cells.unbind(1)
    count = 2 * len(image) + 1e-4

    def distance(maps: Tensor, wanted: Tensor) -> Tensor:
        return l1_loss(maps[image, :, row, column].to(wanted.dtype), wanted, reduction="sum") / count

    return {
        "heat": focal_loss(logits, truth.heat),
        "size": SIZE_WEIGHT * distance(sizes, truth.sizes),
        "offset": distance(offsets, truth.offsets),
    }


def decode(heat: Tensor, sizes: Tensor, offsets: Tensor, *, stride: int, top: int = 100) -> list[dict[str, Tensor]]:
    """Read the boxes off the maps: the highest cells that none of their eight neighbours exceeds.

    Args:
        heat: `(batch, classes, height, width)`, from 0 to 1.
        sizes: `(batch, 2, height, width)`, in cells.
        offsets: `(batch, 2, height, width)`, in cells.
        stride: Pixels per cell.
        top: How many boxes to give per image, if there are so many cells.

    Returns:
        Per image `boxes` `(top, 4)` in pixels, `labels` `(top,)` from 0, and `scores` `(top,)`, the best first.
    """
    _, classes, height, width = heat.shape
    summits = heat * (max_pool2d(heat, kernel_size=3, stride=1, padding=1) == heat)
    scores, flat = summits.flatten(1).topk(min(top, classes * height * width))
    labels, cell = flat // (height * width), flat % (height * width)
    at = cell[:, None].expand(-1, 2, -1)
    size = sizes.flatten(2).gather(2, at).transpose(1, 2)
    corner = torch.stack([cell % width, cell // width], dim=-1).to(size.dtype)
    centre = corner + offsets.flatten(2).gather(2, at).transpose(1, 2)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1) * stride
    return [
        {"boxes": box, "labels": label, "scores": score}
        for box, label, score in zip(boxes, labels, scores, strict=True)
    ]
