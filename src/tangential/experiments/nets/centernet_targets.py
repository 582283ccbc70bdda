"""Objects as points: heatmap targets, losses and decoding of CenterNet (arXiv 1904.07850).

Boxes `(objects, 4)` in pixels of the network's input become maps with `stride` pixels a cell: a heatmap per class, with
a peak of exactly 1 at each object's centre and a Gaussian around it, and, at the centre's cell only, the box's size and
the offset of the centre from the cell's corner, both in cells. `decode` is the inverse: local maxima of the heatmap are
centres, and the maps at their cells give the boxes. Decoding right maps gives the true boxes exactly, which is what the
tests check; objects of one class in one cell are the exception, for a cell holds one size. Classes count from 0 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, max_pool2d

SIZE_WEIGHT = 0.1


@dataclass(frozen=True)
class Targets:
    """Targets of the maps of a batch.

    Args:
        heatmap: `(batch, classes, height, width)`, from 0 to 1; exactly 1 at the centres.
        cells: `(objects, 3)`: image, row and column of each object.
        sizes: `(objects, 2)`: width and height, in cells.
        offsets: `(objects, 2)`: centre minus the corner of its cell, x and y, in cells from 0 to 1.
    """

    heatmap: Tensor
    cells: Tensor
    sizes: Tensor
    offsets: Tensor


def gaussian_radius(height: Tensor, width: Tensor, overlap: float = 0.7) -> Tensor:
    """Radius within which a box's corners may move and still overlap the true one, by CornerNet's formula.

    The roots are those of CornerNet's code, which CenterNet kept: `(b + sqrt(b^2 - 4ac)) / 2` in all three cases, where
    the quadratic formula divides by `2a`. Their smallest is what trained both papers' networks.

    Args:
        height: Of the boxes, any shape.
        width: Of the boxes, the same shape.
        overlap: The least intersection over union.

    Returns:
        The radii, the same shape, not rounded.

    Examples:
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


def make_targets(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], *, classes: int, shape: tuple[int, int], stride: int
) -> Targets:
    """Heatmaps, sizes and offsets of the boxes of a batch.

    Args:
        boxes: Per image `(objects, 4)`: left, top, right, bottom, in pixels, with an area and inside the image.
        labels: Per image `(objects,)`, from 0.
        classes: How many classes there are.
        shape: Height and width of the maps, in cells.
        stride: Pixels per cell.

    Examples:
        >>> box, label = torch.tensor([[8.0, 8.0, 16.0, 12.0]]), torch.tensor([1])
        >>> targets = make_targets([box], [label], classes=2, shape=(8, 8), stride=4)
        >>> targets.cells.tolist(), targets.sizes.tolist(), targets.offsets.tolist()
        ([[0, 2, 3]], [[2.0, 1.0]], [[0.0, 0.5]])
        >>> targets.heatmap[0, 1, 2, 3].item(), targets.heatmap[0, 0].sum().item()
        (1.0, 0.0)
    """
    cells, sizes, offsets = [], [], []
    heatmap = boxes[0].new_zeros(len(boxes), classes, *shape)
    for image, (corners, kinds) in enumerate(zip(boxes, labels, strict=True)):
        corners = corners / stride
        size, centre = corners[:, 2:] - corners[:, :2], (corners[:, 2:] + corners[:, :2]) / 2
        column_row = centre.floor()
        radius = gaussian_radius(size[:, 1].ceil(), size[:, 0].ceil()).floor().clamp(min=0)
        gaussians = _gaussians(column_row, radius, shape)
        # Where Gaussians of one class overlap the greater counts, so that no peak is lowered by its neighbour.
        heatmap[image].scatter_reduce_(0, kinds[:, None, None].expand_as(gaussians), gaussians, "amax")
        sizes.append(size)
        offsets.append(centre - column_row)
        cells.append(torch.cat([kinds.new_full((len(kinds), 1), image), column_row.flip(1).long()], dim=1))
    return Targets(heatmap, torch.cat(cells), torch.cat(sizes), torch.cat(offsets))


def _gaussians(centres: Tensor, radius: Tensor, shape: tuple[int, int]) -> Tensor:
    """One Gaussian per centre `(objects, 2)`, zero outside a square of its radius: `(objects, height, width)`."""
    dx = torch.arange(shape[1], device=centres.device) - centres[:, 0, None, None]
    dy = torch.arange(shape[0], device=centres.device)[:, None] - centres[:, 1, None, None]
    radius = radius[:, None, None]
    sigma = (2 * radius + 1) / 6
    inside = (dx.abs() <= radius) & (dy.abs() <= radius)
    return torch.exp(-(dx.square() + dy.square()) / (2 * sigma.square())) * inside


def focal_loss(logits: Tensor, heatmap: Tensor) -> Tensor:
    """Penalty-reduced focal loss (equation 1): cells near a peak cost less, and so do cells that are nearly right.

    Args:
        logits: `(batch, classes, height, width)`.
        heatmap: The same shape, as `Targets.heatmap`.

    Returns:
        The sum over all cells, divided by the number of centres if there are any; a tensor without dimensions.
    """
    p = logits.to(heatmap.dtype).sigmoid().clamp(1e-4, 1 - 1e-4)
    centre = heatmap == 1
    at_centre = (1 - p).square() * p.log()
    elsewhere = (1 - heatmap).pow(4) * p.square() * (1 - p).log()
    return -torch.where(centre, at_centre, elsewhere).sum() / centre.sum().clamp(min=1)


def losses(logits: Tensor, sizes: Tensor, offsets: Tensor, targets: Targets) -> dict[str, Tensor]:
    """Losses of the maps of a batch.

    Args:
        logits: `(batch, classes, height, width)`.
        sizes: `(batch, 2, height, width)`.
        offsets: `(batch, 2, height, width)`.
        targets: Of the same batch.

    Returns:
        `heat`, `size` (a tenth of the mean absolute error) and `offset`, which add up to the loss.
    """
    image, row, column = targets.cells.unbind(1)
    count = 2 * len(image) + 1e-4

    def distance(maps: Tensor, wanted: Tensor) -> Tensor:
        return l1_loss(maps[image, :, row, column].to(wanted.dtype), wanted, reduction="sum") / count

    return {
        "heat": focal_loss(logits, targets.heatmap),
        "size": SIZE_WEIGHT * distance(sizes, targets.sizes),
        "offset": distance(offsets, targets.offsets),
    }


def decode(heat: Tensor, sizes: Tensor, offsets: Tensor, *, stride: int, top: int = 100) -> list[dict[str, Tensor]]:
    """Decode boxes: the highest local maxima of the heatmaps, with the sizes and offsets at their cells.

    Args:
        heat: `(batch, classes, height, width)`, from 0 to 1.
        sizes: `(batch, 2, height, width)`, in cells.
        offsets: `(batch, 2, height, width)`, in cells.
        stride: Pixels per cell.
        top: Number of boxes per image; fewer if there are fewer cells.

    Returns:
        Per image `boxes` `(top, 4)` in pixels, `labels` `(top,)` from 0, and `scores` `(top,)`, the best first.
    """
    _, classes, height, width = heat.shape
    # A maximum of its 3 x 3 cells stands for itself alone, which does what non-maximum suppression does elsewhere.
    maxima = heat * (max_pool2d(heat, kernel_size=3, stride=1, padding=1) == heat)
    scores, flat = maxima.flatten(1).topk(min(top, classes * height * width))
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
