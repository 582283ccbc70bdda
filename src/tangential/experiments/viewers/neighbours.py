"""Nearest neighbours of some queries in a trained embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tangential.experiments.tasks.recall import nearest
from tangential.experiments.tasks.retrieval import Retrieval, embedded

BATCH = 128


@dataclass(frozen=True)
class Neighbour:
    """One image of the test set that was retrieved.

    Args:
        number: Index in the test set.
        caption: Its file, or its class and number.
        right: Whether it is of the query's class.
        cosine: Of its embedding and the query's.
    """

    number: int
    caption: str
    right: bool
    cosine: float


@dataclass(frozen=True)
class Query:
    """A query and its nearest neighbours, the nearest first."""

    number: int
    caption: str
    found: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Retrieved:
    """The queries that are shown, and the metrics and number of all queries."""

    shown: tuple[Query, ...]
    scores: dict[str, float]
    queries: int


@torch.no_grad()
def answers(task: Retrieval, model: nn.Module, *, count: int, neighbours: int, only_wrong: bool = False) -> Retrieved:
    """Metrics of a trained embedding, and some queries with their neighbours, of as many classes as possible.

    Args:
        task: The task.
        model: Its network, in evaluation mode.
        count: Number of queries to show.
        neighbours: Number of neighbours of each.
        only_wrong: Whether to show only queries whose nearest neighbour is of another class.

    Returns:
        The same at every call.
    """
    vectors, classes, is_query = _embedded(task, model)
    scores = task.metrics(vectors, classes, is_query)
    every = torch.arange(len(classes))
    queries, gallery = (every, every) if is_query is None else (every[is_query], every[~is_query])
    queries = _with_matches(queries, classes, classes[gallery], itself=is_query is None)
    order = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))
    caption = captions(task, classes)
    shown: list[Query] = []
    for number in _class_by_class(queries[order], classes):
        if len(shown) == count:
            break
        itself = torch.tensor([number]) if is_query is None else None
        cosines, places = nearest(vectors[number][None], vectors[gallery], neighbours, without=itself)
        right = classes[gallery[places[0]]] == classes[number]
        if not (only_wrong and bool(right[0])):
            rows = zip(gallery[places[0]].tolist(), right.tolist(), cosines[0].tolist(), strict=True)
            found = tuple(Neighbour(each, caption(each), same, cosine) for each, same, cosine in rows)
            shown.append(Query(number, caption(number), found))
    return Retrieved(tuple(shown), scores, len(queries))


def _embedded(task: Retrieval, model: nn.Module) -> tuple[Tensor, Tensor, Tensor | None]:
    """Embeddings of the test images, computed on the accelerator if there is one."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = model.to(device)
    batches = (tuple(part.to(device) for part in batch) for batch in task.batches("test", batch_size=BATCH))
    vectors, classes, is_query = embedded(model, batches)
    return vectors.cpu(), classes.cpu(), None if is_query is None else is_query.cpu()


def captions(task: Retrieval, classes: Tensor) -> Callable[[int], str]:
    """Caption of a test image by its index: its folder and file, or the name or number of its class."""
    samples = getattr(task.data.load("test"), "samples", None)
    if samples is not None:
        return lambda number: "/".join(samples[number][0].replace("\\", "/").split("/")[-2:])
    data: Any = task.data
    names: Sequence[str] = data.names("test") if hasattr(data, "names") else ()
    return lambda number: names[int(classes[number])] if names else f"class {int(classes[number])}, image {number}"


def _with_matches(queries: Tensor, classes: Tensor, gallery_classes: Tensor, *, itself: bool) -> Tensor:
    """Queries whose class has an image in the gallery, other than the query itself."""
    there = torch.bincount(gallery_classes, minlength=int(classes.max()) + 1)
    return queries[there[classes[queries]] > int(itself)]


def _class_by_class(numbers: Tensor, classes: Tensor) -> list[int]:
    """One of each class first, then a second of each, and so on."""
    turns: dict[int, int] = {}
    ranked = []
    for place, number in enumerate(numbers.tolist()):
        kind = int(classes[number])
        turns[kind] = turns.get(kind, 0) + 1
        ranked.append((turns[kind], place, number))
    return [number for _, _, number in sorted(ranked)]
