"""What a trained embedding finds for some queries."""

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
class Found:
    """One image of the test set, and where it stands in an answer.

    Args:
        number: Which image of the test set it is.
        caption: What it is called.
        right: Whether it is of the query's class.
        cosine: Of its embedding and the query's.
    """

    number: int
    caption: str
    right: bool
    cosine: float


@dataclass(frozen=True)
class Answer:
    """A query and its nearest neighbours, the nearest first."""

    number: int
    caption: str
    found: tuple[Found, ...]


@dataclass(frozen=True)
class Answers:
    """The answers that are shown, and the scores of all queries."""

    shown: tuple[Answer, ...]
    scores: dict[str, float]
    queries: int


@torch.no_grad()
def answers(task: Retrieval, model: nn.Module, *, count: int, neighbours: int, only_wrong: bool = False) -> Answers:
    """Embed the test images, measure, and choose some queries, each of another class as far as there are as many.

    Args:
        task: What was trained.
        model: Its network, in evaluation mode.
        count: How many queries to show.
        neighbours: How many of the nearest to show for each.
        only_wrong: Show only queries whose nearest neighbour is of another class.

    Returns:
        The same answers at every call.
    """
    vectors, classes, asked = _embedded(task, model)
    scores = task.metrics(vectors, classes, asked)
    every = torch.arange(len(classes))
    queries, gallery = (every, every) if asked is None else (every[asked], every[~asked])
    queries = _answerable(queries, classes, classes[gallery], itself=asked is None)
    draw = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))
    caption = captions(task, classes)
    shown: list[Answer] = []
    for number in _by_turns(queries[draw], classes):
        if len(shown) == count:
            break
        itself = torch.tensor([number]) if asked is None else None
        cosines, places = nearest(vectors[number][None], vectors[gallery], neighbours, without=itself)
        right = classes[gallery[places[0]]] == classes[number]
        if not (only_wrong and bool(right[0])):
            rows = zip(gallery[places[0]].tolist(), right.tolist(), cosines[0].tolist(), strict=True)
            found = tuple(Found(each, caption(each), same, cosine) for each, same, cosine in rows)
            shown.append(Answer(number, caption(number), found))
    return Answers(tuple(shown), scores, len(queries))


def _embedded(task: Retrieval, model: nn.Module) -> tuple[Tensor, Tensor, Tensor | None]:
    """Embed the test images on the best device there is."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = model.to(device)
    batches = (tuple(part.to(device) for part in batch) for batch in task.batches("test", batch_size=BATCH))
    vectors, classes, asked = embedded(model, batches)
    return vectors.cpu(), classes.cpu(), None if asked is None else asked.cpu()


def captions(task: Retrieval, classes: Tensor) -> Callable[[int], str]:
    """Say how a test image is called: its folder and file, or the name or number of its class."""
    samples = getattr(task.data.load("test"), "samples", None)
    if samples is not None:
        return lambda number: "/".join(samples[number][0].replace("\\", "/").split("/")[-2:])
    data: Any = task.data
    names: Sequence[str] = data.names("test") if hasattr(data, "names") else ()
    return lambda number: names[int(classes[number])] if names else f"class {int(classes[number])}, image {number}"


def _answerable(queries: Tensor, classes: Tensor, gallery_classes: Tensor, *, itself: bool) -> Tensor:
    """Those whose class has an image in the gallery, beside the query itself if it lies there."""
    there = torch.bincount(gallery_classes, minlength=int(classes.max()) + 1)
    return queries[there[classes[queries]] > int(itself)]


def _by_turns(numbers: Tensor, classes: Tensor) -> list[int]:
    """One of each class first, then a second of each, and so on."""
    turns: dict[int, int] = {}
    ranked = []
    for place, number in enumerate(numbers.tolist()):
        kind = int(classes[number])
        turns[kind] = turns.get(kind, 0) + 1
        ranked.append((turns[kind], place, number))
    return [number for _, _, number in sorted(ranked)]
