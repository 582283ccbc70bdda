"""Average precision of detections: COCO's, from its own library, and Pascal VOC's.

Per image, the ground truth is a dict of `boxes` `(n, 4)`, `labels` `(n,)` and, where some objects are difficult or a
crowd, `ignore` `(n,)`; detections are a dict of `boxes`, `labels` and `scores`. Both measures go over the detections of
a class in order of falling score, call each true or false positive by its intersection over union with the objects of
its image, and integrate precision over recall. Boxes may be stretched: intersection over union does not change if both
boxes are stretched alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from tangential.experiments.tasks.finite import all_finite, undefined

Boxes = dict[str, Tensor]
VOC_OVERLAP = 0.5


def coco_precision(found: Sequence[Boxes], truths: Sequence[Boxes]) -> dict[str, float]:
    """COCO's average precision: mean over the classes, at most 100 boxes an image.

    Args:
        found: The detections of each image.
        truths: Its objects; those to ignore are treated as COCO's crowds.

    Returns:
        `ap` (mean over the thresholds 0.5, 0.55, ..., 0.95), `ap50` and `ap75`, from 0 to 1; NaN if a box or score is
        not finite.

    Raises:
        ValueError: No image has an object that counts, or the extra `detection` is not installed.

    Examples:
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
    if not _finite(found, truths):
        return undefined(("ap", "ap50", "ap75"))
    # torchmetrics' own thresholds are float32: 0.30000001 is missed by a recall of exactly 0.3, which costs up to 4e-4
    metric = MeanAveragePrecision(
        backend="pycocotools",
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    metric.warn_on_many_detections = False  # more than 100 boxes an image are cut to the best 100, as in COCO
    metric.update([dict(each) for each in found], [_with_crowds(each) for each in truths])
    measured = metric.compute()
    return {name: float(measured[key]) for name, key in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75"))}


def voc_precision(found: Sequence[Boxes], truths: Sequence[Boxes]) -> float:
    """Pascal VOC's average precision since 2010: mean over the classes of the area under precision over recall.

    A detection is a true positive if the object that it overlaps most is overlapped by at least half, and no detection
    of a higher score has found it. Precision is interpolated: at a recall it is the best at this or any higher one.

    Args:
        found: The detections of each image.
        truths: Its objects; finding one to ignore is neither a true nor a false positive.

    Returns:
        From 0 to 1; NaN if a box or score is not finite.

    Raises:
        ValueError: No image has an object that counts.
    """
    _check(truths)
    if not _finite(found, truths):
        return math.nan
    classes = torch.cat([each["labels"][~_ignored(each)] for each in truths]).unique()
    return sum(_class_precision(found, truths, int(label)) for label in classes) / len(classes)


def _class_precision(found: Sequence[Boxes], truths: Sequence[Boxes], label: int) -> float:
    judged = [
        _judged(_of_class(each, label), _of_class(truth, label)) for each, truth in zip(found, truths, strict=True)
    ]
    scores, right, counted = (torch.cat([each[index] for each in judged]) for index in range(3))
    order = scores.argsort(descending=True, stable=True)
    order = order[counted[order]]
    objects = sum(int((truth["labels"][~_ignored(truth)] == label).sum()) for truth in truths)
    hits = right[order].cumsum(0).double()
    recall, precision = hits / objects, hits / torch.arange(1, len(hits) + 1)
    falling = precision.flip(0).cummax(0).values.flip(0) if len(precision) else precision
    return float((falling * torch.diff(recall, prepend=recall.new_zeros(1))).sum())


def _judged(found: Boxes, truth: Boxes) -> tuple[Tensor, Tensor, Tensor]:
    """Of the detections of an image and class: scores, whether true positives, whether counted, `(n,)` each."""
    order = found["scores"].argsort(descending=True, stable=True)
    right, counted = torch.zeros(len(order), dtype=torch.bool), torch.ones(len(order), dtype=torch.bool)
    if len(truth["boxes"]) and len(order):
        overlaps, nearest = box_iou(found["boxes"][order], truth["boxes"]).max(dim=1)
        ignored = _ignored(truth)
        taken = torch.zeros(len(ignored), dtype=torch.bool)
        for place in (overlaps >= VOC_OVERLAP).nonzero().flatten().tolist():
            object_ = int(nearest[place])
            counted[place] = not ignored[object_]
            right[place] = not ignored[object_] and not taken[object_]
            taken[object_] = True
    return found["scores"][order], right, counted


def _of_class(each: Boxes, label: int) -> Boxes:
    chosen = each["labels"] == label
    return {name: values[chosen] for name, values in each.items() if name != "frame"}


def _ignored(truth: Boxes) -> Tensor:
    return truth.get("ignore", torch.zeros(len(truth["labels"]), dtype=torch.bool))


def _with_crowds(truth: Boxes) -> Boxes:
    return {"boxes": truth["boxes"], "labels": truth["labels"], "iscrowd": _ignored(truth).long()}


def _finite(found: Sequence[Boxes], truths: Sequence[Boxes]) -> bool:
    values = [each[name] for each in (*found, *truths) for name in ("boxes", "scores") if name in each]
    return all_finite(*values)


def _check(truths: Sequence[Boxes]) -> None:
    if not any((~_ignored(each)).any() for each in truths):
        raise ValueError("average precision: no image has an object to find, so there is nothing to measure")
