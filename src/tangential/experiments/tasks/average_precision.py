"""How well boxes are found: COCO's average precision from its own library, and Pascal VOC's.

Truths are dicts with `boxes` `(n, 4)`, `labels` `(n,)` and, if some things count for nothing, `ignore` `(n,)`;
detections are dicts with `boxes`, `labels` and `scores`. Boxes may be stretched: the measures only compare boxes of one
picture, and intersection over union does not change if both are stretched alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

Found = dict[str, Tensor]
VOC_OVERLAP = 0.5


def coco_precision(found: Sequence[Found], truths: Sequence[Found]) -> dict[str, float]:
    """Measure as COCO does: averaged over classes, at most 100 boxes a picture.

    Args:
        found: The detections of each picture.
        truths: Its things; those to ignore are treated as COCO's crowds.

    Returns:
        `ap` (averaged over overlaps of 0.5, 0.55, ..., 0.95), `ap50` and `ap75`, from 0 to 1.

    Raises:
        ValueError: No picture holds a thing that counts, or the extra `detection` is not installed.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> truth = {"boxes": box, "labels": torch.tensor([1])}
        >>> coco_precision([truth | {"scores": torch.tensor([0.9])}], [truth])
        {'ap': 1.0, 'ap50': 1.0, 'ap75': 1.0}
    """
    try:
        from torchmetrics.detection import MeanAveragePrecision
    except ImportError as error:
        raise ValueError("average precision needs torchmetrics: pip install 'tangential[detection]'") from error
    _check(truths)
    # torchmetrics' own thresholds are float32: 0.30000001 is missed by a recall of exactly 0.3, which costs up to 4e-4
    metric = MeanAveragePrecision(
        backend="pycocotools",
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    metric.warn_on_many_detections = False  # more than 100 boxes a picture are cut to the best 100, as COCO does
    metric.update([dict(each) for each in found], [_with_crowds(each) for each in truths])
    measured = metric.compute()
    return {name: float(measured[key]) for name, key in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75"))}


def voc_precision(found: Sequence[Found], truths: Sequence[Found], *, eleven_points: bool = False) -> float:
    """Measure as Pascal VOC does: the mean over classes of the area under the curve of precision over recall.

    A box is right if the thing that it overlaps most is overlapped by at least half, and no better box found it before.
    The curve is made to fall: the precision at a recall is the best at this or any higher one.

    Args:
        found: The detections of each picture.
        truths: Its things; finding one to ignore is neither right nor wrong.
        eleven_points: Whether to average the precision at the recalls 0, 0.1, ..., 1, as was done until 2009.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: No picture holds a thing that counts.
    """
    _check(truths)
    classes = torch.cat([each["labels"][~_ignored(each)] for each in truths]).unique()
    return sum(_class_precision(found, truths, int(label), eleven_points) for label in classes) / len(classes)


def _class_precision(found: Sequence[Found], truths: Sequence[Found], label: int, eleven_points: bool) -> float:
    judged = [
        _judged(_of_class(each, label), _of_class(truth, label)) for each, truth in zip(found, truths, strict=True)
    ]
    scores, right, counted = (torch.cat([each[index] for each in judged]) for index in range(3))
    order = scores.argsort(descending=True, stable=True)
    order = order[counted[order]]
    things = sum(int((truth["labels"][~_ignored(truth)] == label).sum()) for truth in truths)
    hits = right[order].cumsum(0).double()
    recall, precision = hits / things, hits / torch.arange(1, len(hits) + 1)
    falling = precision.flip(0).cummax(0).values.flip(0) if len(precision) else precision
    if eleven_points:
        # tenths as integers: 0.1 * 3 is not 0.3, and a recall of exactly 0.3 counts
        reached = [falling[hits * 10 >= tenth * things] for tenth in range(11)]
        return sum(float(each[0]) if len(each) else 0.0 for each in reached) / 11
    return float((falling * torch.diff(recall, prepend=recall.new_zeros(1))).sum())


def _judged(found: Found, truth: Found) -> tuple[Tensor, Tensor, Tensor]:
    """Of the boxes of one picture and class: the scores, whether each is right, and whether it counts at all."""
    order = found["scores"].argsort(descending=True, stable=True)
    right, counted = torch.zeros(len(order), dtype=torch.bool), torch.ones(len(order), dtype=torch.bool)
    if len(truth["boxes"]) and len(order):
        overlaps, nearest = box_iou(found["boxes"][order], truth["boxes"]).max(dim=1)
        ignored = _ignored(truth)
        taken = torch.zeros(len(ignored), dtype=torch.bool)
        for place in (overlaps >= VOC_OVERLAP).nonzero().flatten().tolist():
            thing = int(nearest[place])
            counted[place] = not ignored[thing]
            right[place] = not ignored[thing] and not taken[thing]
            taken[thing] = True
    return found["scores"][order], right, counted


def _of_class(each: Found, label: int) -> Found:
    chosen = each["labels"] == label
    return {name: values[chosen] for name, values in each.items() if name != "frame"}


def _ignored(truth: Found) -> Tensor:
    return truth.get("ignore", torch.zeros(len(truth["labels"]), dtype=torch.bool))


def _with_crowds(truth: Found) -> Found:
    return {"boxes": truth["boxes"], "labels": truth["labels"], "iscrowd": _ignored(truth).long()}


def _check(truths: Sequence[Found]) -> None:
    if not any((~_ignored(each)).any() for each in truths):
        raise ValueError("average precision: no picture holds a thing to find, so there is nothing to measure")
