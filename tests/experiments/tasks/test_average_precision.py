"""Average precision: 1 for perfect boxes, the library's numbers for any, Pascal's rules by hand."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tangential.experiments.tasks.average_precision import coco_precision, voc_precision


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def found(rows, scores, labels=None):
    return {"boxes": boxes(*rows), "scores": torch.tensor(scores), "labels": torch.tensor(labels or [1] * len(rows))}


def truth(rows, labels=None, ignore=None):
    return {
        "boxes": boxes(*rows),
        "labels": torch.tensor(labels or [1] * len(rows), dtype=torch.long),
        "ignore": torch.tensor(ignore or [False] * len(rows), dtype=torch.bool),
    }


def scene(seed, pictures=12, classes=3):
    """Things on a grid, so that no two overlap, and boxes that are near them, elsewhere, or of the wrong class."""
    draw = np.random.default_rng(seed)
    guesses, truths = [], []
    for _ in range(pictures):
        cells = draw.permutation(16)[: draw.integers(0, 7)]
        corner = np.stack([cells % 4, cells // 4], axis=1) * 50.0 + draw.uniform(0, 10, (len(cells), 2))
        rows = np.concatenate([corner, corner + draw.uniform(15, 35, (len(cells), 2))], axis=1)
        labels = draw.integers(1, classes + 1, len(cells))
        truths.append(truth(rows.tolist(), labels.tolist()))
        noisy = rows + draw.normal(0, 2.5, rows.shape)
        guessed = np.where(draw.random(len(cells)) < 0.85, labels, draw.integers(1, classes + 1, len(cells)))
        stray = draw.uniform(0, 150, (3, 2))
        noisy = np.concatenate([noisy, np.concatenate([stray, stray + 30], axis=1)])
        guessed = np.concatenate([guessed, draw.integers(1, classes + 1, 3)])
        scores = draw.permutation(1000)[: len(guessed)] / 1000 + draw.random() * 1e-4
        guesses.append(found(noisy.tolist(), scores.tolist(), guessed.tolist()))
    return guesses, truths


def library(guesses, truths, recalls=None):
    """`pycocotools` asked directly."""
    annotations, results = [], []
    for image, (guess, true) in enumerate(zip(guesses, truths, strict=True)):
        for (x, y, r, b), label in zip(true["boxes"].tolist(), true["labels"].tolist(), strict=True):
            about = {"bbox": [x, y, r - x, b - y], "area": (r - x) * (b - y), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": label, **about})
        for (x, y, r, b), label, score in zip(*(guess[k].tolist() for k in ("boxes", "labels", "scores")), strict=True):
            results.append({"image_id": image, "category_id": label, "bbox": [x, y, r - x, b - y], "score": score})
    with redirect_stdout(io.StringIO()):
        index = COCO()
        categories = [{"id": label} for label in sorted({each["category_id"] for each in annotations})]
        index.dataset = {
            "images": [{"id": i} for i in range(len(truths))],
            "annotations": annotations,
            "categories": categories,
        }
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(results), "bbox")
        if recalls is not None:
            evaluation.params.recThrs = recalls
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_perfect_boxes_have_an_average_precision_of_one():
    _, truths = scene(0)
    perfect = [{"boxes": t["boxes"], "labels": t["labels"], "scores": torch.ones(len(t["labels"]))} for t in truths]
    assert coco_precision(perfect, truths) == {"ap": 1.0, "ap50": 1.0, "ap75": 1.0}
    assert voc_precision(perfect, truths) == 1.0


def test_no_boxes_and_wrong_boxes_have_an_average_precision_of_zero():
    true = [truth([[0, 0, 10, 10]])]
    for guess in (found([], []), found([[50, 50, 60, 60]], [0.9]), found([[0, 0, 10, 10]], [0.9], [2])):
        assert coco_precision([guess], true) == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
        assert voc_precision([guess], true) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_coco_precision_is_the_librarys(seed):
    guesses, truths = scene(seed)
    stats = library(guesses, truths).stats
    ours = coco_precision(guesses, truths)
    assert 0.05 < ours["ap"] < 0.95
    # torchmetrics hands float32 boxes on
    assert [ours["ap"], ours["ap50"], ours["ap75"]] == pytest.approx(stats[:3].tolist(), abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_voc_precision_is_the_librarys_with_the_curve_read_finely(seed):
    guesses, truths = scene(seed)
    # the library's mean over recalls on a fine grid is the area; its matching agrees where things do not overlap
    fine = library(guesses, truths, np.linspace(0, 1, 4_001)).eval["precision"][0, :, :, 0, -1]
    assert voc_precision(guesses, truths) == pytest.approx(fine.mean(axis=0).mean(), abs=1e-3)


@pytest.mark.parametrize("stretch", [(1, 1), (2, 2), (0.5, 3)])
def test_measures_do_not_see_a_stretch_of_the_pictures(stretch):
    guesses, truths = scene(5)
    factor = torch.tensor([*stretch, *stretch], dtype=torch.float32)
    stretched = [[each | {"boxes": each["boxes"] * factor} for each in group] for group in (guesses, truths)]
    assert coco_precision(*stretched) == pytest.approx(coco_precision(guesses, truths), abs=1e-9)
    assert voc_precision(*stretched) == pytest.approx(voc_precision(guesses, truths), abs=1e-9)


def test_voc_area_by_hand():
    # right, wrong, right of 3 things: precision 1 up to a recall of 1/3, then 2/3 up to 2/3, then nothing
    true = truth([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    guess = found([[0, 0, 10, 10], [60, 60, 70, 70], [20, 20, 30, 30]], [0.9, 0.8, 0.7])
    assert voc_precision([guess], [true]) == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)


def test_a_second_box_on_the_same_thing_is_wrong():
    true = truth([[0, 0, 10, 10], [20, 20, 30, 30]])
    guess = found([[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]], [0.9, 0.8, 0.7])
    assert voc_precision([guess], [true]) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_finding_or_missing_what_is_to_be_ignored_counts_for_nothing():
    true = truth([[0, 0, 10, 10], [20, 20, 30, 30]], ignore=[False, True])
    hit, both = found([[0, 0, 10, 10]], [0.8]), found([[20, 20, 30, 30], [0, 0, 10, 10]], [0.9, 0.8])
    for guess in (hit, both):
        assert voc_precision([guess], [true]) == 1.0
        assert coco_precision([guess], [true])["ap"] == pytest.approx(1.0)


def test_score_decides_across_pictures():
    true = [truth([[0, 0, 10, 10]]), truth([])]
    sure, unsure = found([[5, 50, 15, 60]], [0.9]), found([[5, 50, 15, 60]], [0.1])
    hit = found([[0, 0, 10, 10]], [0.5])
    assert voc_precision([hit, unsure], true) == 1.0
    assert voc_precision([hit, sure], true) == 0.5


def test_nothing_to_find_is_refused():
    for true in ([], [truth([])], [truth([[0, 0, 9, 9]], ignore=[True])]):
        with pytest.raises(ValueError, match="no image has an object to find"):
            coco_precision([found([], [])] * len(true), true)
        with pytest.raises(ValueError, match="no image has an object to find"):
            voc_precision([found([], [])] * len(true), true)
