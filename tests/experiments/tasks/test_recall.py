"""Recall@K: equal to brute force whatever the blocks, ties against the net, and equal to the library's."""

import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch.nn.functional import normalize

from tangential.experiments.tasks.recall import nearest, recall, wrong_before


def points(count, classes, dim=4):
    return normalize(torch.randn(count, dim), dim=1), torch.randint(classes, (count,))


def by_sorting(queries, classes, gallery, gallery_classes, at, itself):
    """One query at a time, by sorting the whole gallery."""
    hits = []
    for number, (query, kind) in enumerate(zip(queries, classes, strict=True)):
        keep = torch.ones(len(gallery), dtype=torch.bool)
        if itself:
            keep[number] = False
        if not (gallery_classes[keep] == kind).any():
            continue
        order = (gallery[keep] @ query).argsort(descending=True)
        hits.append([bool((gallery_classes[keep][order[:k]] == kind).any()) for k in at])
    return torch.tensor(hits).double().mean(0).tolist()


@pytest.mark.parametrize("block", [1, 7, 100, 1000, 2**24])
@pytest.mark.parametrize("seed", range(4))
def test_recall_equals_brute_force_in_blocks_of_any_size(block, seed):
    torch.manual_seed(seed)
    x, classes = points(61, 20)
    at = (1, 2, 5, 60, 1000)
    assert recall(x, classes, at=at, block=block) == pytest.approx(by_sorting(x, classes, x, classes, at, True))


@pytest.mark.parametrize("block", [1, 90, 2**24])
def test_queries_are_searched_in_their_gallery_alone(block):
    queries, classes = points(30, 9)
    gallery, gallery_classes = points(45, 9)
    expected = by_sorting(queries, classes, gallery, gallery_classes, (1, 3), False)
    assert recall(queries, classes, gallery, gallery_classes, at=(1, 3), block=block) == pytest.approx(expected)


def test_recall_at_1_is_the_librarys_precision_at_1():
    x, classes = points(200, 30, dim=8)
    library = AccuracyCalculator(include=("precision_at_1",), k=1, knn_func=CustomKNN(CosineSimilarity()))
    assert recall(x, classes) == pytest.approx([library.get_accuracy(x, classes)["precision_at_1"]])
    found = library.get_accuracy(x[:80], classes[:80], x[80:], classes[80:])["precision_at_1"]
    assert recall(x[:80], classes[:80], x[80:], classes[80:]) == pytest.approx([found])


@pytest.mark.parametrize("block", [1, 50, 2**24])
def test_one_point_for_all_images_finds_nothing(block):
    x = normalize(torch.randn(1, 37), dim=1).expand(60, -1)
    classes = torch.arange(6).repeat_interleave(10)
    # as many wrong images as there are tie with the right ones
    assert recall(x, classes, at=(1, 50, 51), block=block) == [0.0, 0.0, 1.0]


def test_a_perfect_embedding_finds_all():
    classes = torch.arange(5).repeat(4)
    assert recall(torch.eye(5)[classes], classes, at=(1, 2)) == [1.0, 1.0]


def test_a_query_whose_class_is_alone_does_not_count_but_disturbs():
    x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    assert wrong_before(x, torch.tensor([0, 1, 0])).tolist() == [1, -1, 1]
    assert recall(x, torch.tensor([0, 1, 0])) == [0.0]
    with pytest.raises(ValueError, match="no query has another image"):
        recall(x, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="no query has another image"):
        recall(x, torch.tensor([0, 1, 2]), x[:0], torch.tensor([], dtype=torch.int64))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_have_no_recall(bad):
    x, classes = points(20, 4)
    x[3, 1] = bad
    assert all(math.isnan(value) for value in recall(x, classes, at=(1, 2)))


@pytest.mark.parametrize("settings", [{"at": (0,)}, {"block": 0}])
def test_numbers_below_one_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1"):
        recall(*points(9, 2), **settings)


def test_neighbours_are_the_largest_cosines_without_the_query_itself():
    x, _ = points(30, 3)
    own = torch.tensor([4, 9])
    cosines, found = nearest(x[own], x, 5, without=own)
    table = x[own] @ x.T
    table[torch.arange(2), own] = -2
    assert torch.equal(found, table.argsort(descending=True)[:, :5])
    assert torch.equal(cosines, table.gather(1, found))
    assert nearest(x[own], x, 99, without=own)[1].shape == (2, 29)
    assert nearest(x[own], x, 99)[1].shape == (2, 30)
