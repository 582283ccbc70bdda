"""Language modelling: predict each next token of a text, remembering what was read before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tangential.experiments.data.text.corpora import TextFile, WikiText103, tiny_shakespeare
from tangential.experiments.data.text.streams import IGNORED, Segment, in_turn
from tangential.experiments.data.text.synthetic import Babble
from tangential.experiments.nets.transformer_xl import transformer_xl
from tangential.experiments.task import Headline, Objective, Split

PERPLEXITY = Headline("perplexity", "perplexity", higher_is_better=False)


@dataclass(frozen=True, kw_only=True)
class Language:
    """Learn to continue a text.

    The text is read as streams side by side, each contiguous, segment after segment. Nothing is shuffled; the seed
    draws for each pass where it begins in the text.

    Args:
        data: The text.
        net: Makes the model, given `vocabulary`.
        length: Tokens of a segment, in training.
        test_length: The same in testing.
        test_streams: Streams that the test text is cut into. The first tokens of each have little to look back on, so
            more of them are faster and score slightly worse; the batch size plays no part in testing.
        workers: Processes that cut the segments; 0 cuts them in the process that trains.

    Raises:
        ValueError: A length or a number of streams below one.

    Example:
        >>> net = partial(transformer_xl, layers=1, width=8, heads=2, head_width=4, inner=16)
        >>> task = Language(data=Babble(), net=net, length=8)
        >>> segment = next(iter(task.batches("train", batch_size=4)))
        >>> task.loss(task.model(), segment).shape
        torch.Size([])
    """

    data: WikiText103 | TextFile | Babble = field(default_factory=tiny_shakespeare)
    net: partial[nn.Module] = field(default_factory=lambda: partial(transformer_xl))
    length: int = 150
    test_length: int = 64
    test_streams: int = 10
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("length", "test_length", "test_streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    @property
    def headline(self) -> Headline:
        """Perplexity per token."""
        return PERPLEXITY

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Any]:
        """Give the segments of one pass (`tangential.experiments.data.text.streams.Segment`), in the order of the text.

        Args:
            split: Which part of the text.
            batch_size: Streams side by side, in training.
            generator: Draws where the pass begins in the text; None for its beginning.
        """
        training = split == "train"
        return in_turn(
            self.data.load(split),
            streams=batch_size if training else self.test_streams,
            length=self.length if training else self.test_length,
            generator=generator,
            workers=self.workers,
        )

    def model(self) -> nn.Module:
        """Make a new model for the tokens of this text."""
        return self.net(vocabulary=len(self.data.lengths()))

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Minimise the cross-entropy over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model: nn.Module, batch: Segment) -> Tensor:
        """Average over the targets of one segment of each stream, in nats."""
        return model(*batch).sum() / (batch.targets != IGNORED).sum()

    def score(self, model: nn.Module, batches: Iterable[Segment]) -> dict[str, float]:
        """Measure over all targets: `loss` (mean, nats), `perplexity` (its exponential), `bits_per_character`.

        The last one is the same whatever the tokens are: all bits, divided by the characters that the targets stand
        for.
        """
        nats, count, characters = 0.0, 0, 0
        lengths = self.data.lengths()
        for segment in batches:
            nats += float(model(*segment).double().sum())
            targets = segment.targets[segment.targets != IGNORED].cpu()
            count += len(targets)
            characters += int(lengths[targets].sum())
        loss = nats / count
        perplexity = math.exp(loss) if loss < 700 else math.inf  # what a float can hold
        return {"loss": loss, "perplexity": perplexity, "bits_per_character": nats / math.log(2) / characters}

    def smoke(self) -> Language:
        """Make the same task on 257 generated characters, with a small network, for a run of seconds."""
        known = self.net.keywords
        narrow = {"layers": 2, "width": 16, "heads": 2, "head_width": 8, "inner": 32, "memory": 16, "test_memory": 16}
        cutoffs = {"cutoffs": (4, 8)} if known.get("cutoffs") else {}
        net = partial(self.net.func, **known | narrow | cutoffs)
        return replace(self, data=Babble(), net=net, length=16, test_length=16, test_streams=4, workers=0)
