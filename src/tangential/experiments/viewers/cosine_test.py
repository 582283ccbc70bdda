"""The paper's cosine test over real training steps, beside the blocks that `find_invariances` found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tangential.algorithm import Projection, Reduction, cosine_views
from tangential.backends.rows import view_sums
from tangential.blocks import Blocks, row_dots
from tangential.experiments.viewers.model_spec import ModelAndBatch
from tangential.invariances import Invariances
from tangential.optimizers import AdamP

_TEST = Projection(lr=0.0, decay=0.0, delta=0.1, eps=1e-8, wd_ratio=0.1)
_OVER = Reduction(total=torch.sum, largest=torch.max, where=torch.where)


@dataclass(frozen=True)
class CosineRecord:
    """Decisions of the paper's cosine test on one weight, counted over training steps.

    Args:
        name: The parameter.
        fact: The analysis's label, as in the table.
        invariant: Whether it has blocks.
        channel: Steps in which the channel view fired.
        layer: Steps in which the layer view did.
        neither: Steps in which it was not projected.
        flips: How often the decision changed from one step to the next.
    """

    name: str
    fact: str
    invariant: bool
    channel: int
    layer: int
    neither: int
    flips: int

    @property
    def false_hits(self) -> int:
        """Steps in which a variant weight was projected."""
        return 0 if self.invariant else self.channel + self.layer

    @property
    def misses(self) -> int:
        """Steps in which an invariant weight was not."""
        return self.neither if self.invariant else 0

    @property
    def wrong_view(self) -> int:
        """Steps in which an invariant weight was projected, but not by its own blocks."""
        if not self.invariant:
            return 0
        return {"channel": self.layer, "layer": self.channel}.get(self.fact, self.channel + self.layer)

    @property
    def wrong(self) -> int:
        """Steps in which the test and the analysis disagree."""
        return self.false_hits + self.misses + self.wrong_view


def cosine_view(w: Tensor, g: Tensor) -> str:
    """The view that passes the paper's cosine test on a weight and its gradient: "channel", "layer" or "none".

    Examples:
        >>> cosine_view(torch.eye(2), torch.eye(2).flip(0)), cosine_view(torch.eye(2), torch.eye(2))
        ('channel', 'none')
    """
    sums = tuple(view_sums(w, g, partial(row_dots, dim=0)))
    by_channel, by_layer = cosine_views(sums, w[0].numel(), w.shape[0], _TEST, _OVER)
    return "channel" if by_channel else "layer" if by_layer else "none"


def cosine_records(subject: ModelAndBatch, found: Invariances, steps: int, *, lr: float = 1e-3) -> list[CosineRecord]:
    """Train a model with AdamP for some steps and apply the paper's cosine test to each weight at each step.

    The loss is the model's own where its output has one, else the squared distance to a fixed random target.

    Args:
        subject: The model, which is changed, and its batch.
        found: What `find_invariances` found in it.
        steps: At least 1.
        lr: Learning rate.

    Raises:
        ValueError: No step, or outputs without a number to learn from.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: must be at least 1")
    model = subject.model.train()
    seen: dict[str, list[str]] = {}
    optimizer = AdamP(model.parameters(), lr=lr, weight_decay=1e-2)
    targets: list[Tensor] = []
    for _ in range(steps):
        optimizer.zero_grad()
        _loss(model(*subject.args, **subject.kwargs), targets).backward()
        for name, parameter in _matrices(model):
            if parameter.grad is not None:
                seen.setdefault(name, []).append(cosine_view(parameter.detach(), parameter.grad))
        optimizer.step()
    return [_record(name, views, found) for name, views in seen.items()]


def _record(name: str, views: list[str], found: Invariances) -> CosineRecord:
    counts = Counter(views)
    verdict = found.verdict(name)
    return CosineRecord(
        name=name,
        fact=verdict.label,
        invariant=isinstance(verdict.blocks, Blocks),
        channel=counts["channel"],
        layer=counts["layer"],
        neither=counts["none"],
        flips=sum(a != b for a, b in pairwise(views)),
    )


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, p) for name, p in model.named_parameters() if p.ndim > 1 and p.numel())


def _loss(output: Any, targets: list[Tensor]) -> Tensor:
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    tensors = list(_floating(output))
    if not tensors:
        raise ValueError(f"the model returned {type(output).__name__}, in which there is nothing to learn from")
    if all(t.ndim == 0 for t in tensors):  # a dict of losses, as torchvision's detectors return
        return torch.stack(tensors).sum()
    if not targets:
        generator = torch.Generator().manual_seed(0)
        targets += [torch.randn(t.shape, generator=generator).to(t) for t in tensors]
    return torch.stack([(t - target).square().mean() for t, target in zip(tensors, targets, strict=True)]).sum()


def _floating(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.requires_grad:
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _floating(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _floating(value)
