"""Language modelling: next-token prediction with a memory of the text before."""

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
from tangential.experiments.data.text.synthetic import SyntheticText
from tangential.experiments.nets.transformer_xl import transformer_xl
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Headline, Objective, Split
from tangential.experiments.tasks.finite import at_least_one

PERPLEXITY = Headline("perplexity", "perplexity", higher_is_better=False)


@dataclass(frozen=True, kw_only=True)
class Language:
    """Language modelling.

    The text is cut into contiguous streams, one per row of a batch, and these into segments. Nothing is shuffled; the
    seed draws the offset into the text at which an epoch begins.

    Args:
        data: The text.
        net: Makes the model, given `vocabulary`.
        length: Tokens of a segment in training.
        test_length: The same in testing.
        test_streams: Streams of the test text, in place of the batch size. The first tokens of each have little
            context, so more streams are faster and score slightly worse.
        workers: Worker processes of the dataloader; 0 loads in the main process.

    Raises:
        ValueError: A length or a number of streams below one.

    Examples:
        >>> net = partial(transformer_xl, layers=1, width=8, heads=2, head_width=4, inner=16)
        >>> task = Language(data=SyntheticText(), net=net, length=8)
        >>> segment = next(iter(task.batches("train", batch_size=4)))
        >>> task.loss(task.model(), segment).shape
        torch.Size([])
    """

    data: WikiText103 | TextFile | SyntheticText = field(default_factory=tiny_shakespeare)
    net: partial[nn.Module] = field(default_factory=lambda: partial(transformer_xl))
    length: int = 150
    test_length: int = 64
    test_streams: int = 10
    workers: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, length=self.length, test_length=self.test_length, test_streams=self.test_streams)

    @property
    def headline(self) -> Headline:
        """Perplexity per token."""
        return PERPLEXITY

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Any]:
        """Dataloader of segments (`tangential.experiments.data.text.streams.Segment`) in the order of the text.

        Args:
            split: Which part of the text.
            batch_size: Number of streams in training.
            generator: Of the offset at which the epoch begins; None for the beginning of the text.
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
        """A new model for the vocabulary of this text."""
        return self.net(vocabulary=len(self.data.lengths()))

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Cross-entropy, over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def loss(self, model: nn.Module, batch: Segment) -> Tensor:
        """Mean over the targets of one segment of each stream, in nats."""
        return model(*batch).sum() / (batch.targets != IGNORED).sum()

    def score(self, model: nn.Module, batches: Iterable[Segment]) -> dict[str, float]:
        """Metrics over all targets: `loss` (mean, nats), `perplexity` (its exponential), `bits_per_character`.

        The last one can be compared between tokenizers: all bits, divided by the characters of the targets' text.
        """
        nats, count, characters = 0.0, 0, 0
        lengths = self.data.lengths()
        for segment in at_least_one(batches):
            nats += float(model(*segment).double().sum())
            targets = segment.targets[segment.targets != IGNORED].cpu()
            count += len(targets)
            characters += float(lengths[targets].sum())
        loss = nats / count
        perplexity = math.inf if loss > 700 else math.exp(loss)  # NaN stays NaN; exp(710) overflows a float
        return {"loss": loss, "perplexity": perplexity, "bits_per_character": nats / math.log(2) / characters}

    def smoke(self) -> Language:
        """The same task on 257 synthetic characters, with a small network, for a run of seconds."""
        known = self.net.keywords
        narrow = {"layers": 2, "width": 16, "heads": 2, "head_width": 8, "inner": 32, "memory": 16, "test_memory": 16}
        cutoffs = {"cutoffs": (4, 8)} if known.get("cutoffs") else {}
        net = partial(self.net.func, **known | narrow | cutoffs)
        return replace(self, data=SyntheticText(), net=net, length=16, test_length=16, test_streams=4, workers=0)
