"""Audio classification from waveforms: keyword spotting (one class) and tagging (several labels)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, nll_loss
from torch.utils.data import DataLoader

from tangential.experiments.data.images.in_memory import loader
from tangential.experiments.data.sounds.clips import Batch, Clips
from tangential.experiments.data.sounds.synthetic import Tones
from tangential.experiments.nets.harmonic import harmonic_net
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.settings.overrides import FIXED
from tangential.experiments.task import ACCURACY, Headline, Objective, Split
from tangential.experiments.tasks.finite import all_finite, at_least_one, undefined

ROC_AUC = Headline("roc_auc", "ROC-AUC (%)", scale=100.0)
F1 = Headline("f1", "F1 (%)", scale=100.0)

SMOKE_WIDTH, SMOKE_CHUNKS = 8, 2

A = TypeVar("A", bound="_Audio")


class SoundData(Protocol):
    """Interface of a sound data set. Implementations are frozen dataclasses."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes or tags."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        ...

    @property
    def load(self) -> Callable[..., Clips]:
        """Data set of one split in windows of `samples`, `chunks` of each clip in testing.

        Raises:
            ValueError: The data are not there; the error says in one line where to get them and where to put them.
        """
        ...

    @property
    def smoke(self) -> Callable[[], SoundData]:
        """A few synthetic sounds of the same kind."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Audio(ABC):
    data: SoundData = field(default_factory=Tones)
    net: partial[nn.Module] = field(default_factory=lambda: partial(harmonic_net))
    samples: int = 80_000
    chunks: int = 16

    def __post_init__(self) -> None:
        check_at_least(1, samples=self.samples, chunks=self.chunks)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor: ...

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor: ...

    @abstractmethod
    def metrics(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]: ...

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Batch]:
        """Dataloader, shuffled by `generator` if given; in training it drops a smaller last batch.

        BatchNorm fails on a batch of one clip. The order changes in each epoch, so no clip is always left out.
        """
        clips = self.data.load(split, samples=self.samples, chunks=self.chunks)
        return loader(
            clips, batch_size=batch_size, generator=generator, drop_last=split == "train" and len(clips) >= batch_size
        )

    def model(self) -> nn.Module:
        """A new network for this data.

        Raises:
            ValueError: The windows are too short for it.
        """
        model = self.net(classes=len(self.data.categories), sample_rate=self.data.sample_rate)
        least = getattr(model, "least_samples", 1)
        if self.samples < least:
            raise ValueError(f"samples={self.samples}: this net needs at least {least}")
        return model

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """The loss, over all parameters."""
        return [Objective(self.loss, list(model.parameters()))]

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over all clips, of probabilities that are averaged over the chunks of a clip."""
        probabilities, truths = [], []
        for waves, targets in at_least_one(batches):
            # One chunk of each clip at a time, so that testing needs no more memory than training.
            logits = torch.stack([model(waves[:, chunk]).float() for chunk in range(waves.shape[1])])
            # An infinite logit has a finite probability.
            of_chunks = self.probabilities(logits).masked_fill(~logits.isfinite(), torch.nan)
            probabilities.append(of_chunks.mean(dim=0).cpu())
            truths.append(targets.cpu())
        return self.metrics(torch.cat(probabilities), torch.cat(truths))

    def smoke(self: A) -> A:
        """The same task on a few synthetic tones with a narrow network, for a run of seconds."""
        narrow = partial(self.net, **self.net.keywords | {"width": SMOKE_WIDTH})
        least = getattr(narrow(classes=2, sample_rate=self.data.sample_rate), "least_samples", self.samples)
        return replace(self, data=self.data.smoke(), net=narrow, samples=least, chunks=min(self.chunks, SMOKE_CHUNKS))


@dataclass(frozen=True, kw_only=True)
class Keyword(_Audio):
    """Keyword spotting: one class per clip, trained by cross-entropy.

    Args:
        data: The data set.
        net: Makes the network, given `classes` and `sample_rate`, from waves `(batch, samples)` to logits. Its
            attribute `least_samples`, if it has one, is the shortest window it accepts.
        samples: Length of a window. Longer clips are cropped, shorter ones padded with silence, at random places in
            training.
        chunks: Evenly spaced windows of a test clip, whose probabilities are averaged.

    Raises:
        ValueError: A number below one.

    Examples:
        >>> from tangential.experiments.nets.harmonic import KEYWORD_POOLS
        >>> task = Keyword(net=partial(harmonic_net, width=4, pools=KEYWORD_POOLS), samples=16128, chunks=1)
        >>> task.loss(task.model(), next(iter(task.batches("train", batch_size=4)))).shape
        torch.Size([])
    """

    chunks: int = 1

    @property
    def headline(self) -> Headline:
        """Accuracy, in per cent."""
        return ACCURACY

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch, in nats."""
        waves, classes = batch
        return cross_entropy(model(waves), classes)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each class, `(..., classes)`."""
        return logits.softmax(dim=-1)

    def metrics(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics `loss` (mean, nats) and `accuracy` (from 0 to 1)."""
        if not all_finite(probabilities):
            return undefined(("loss", "accuracy"))
        tiny = torch.finfo(probabilities.dtype).tiny
        right = (probabilities.argmax(dim=1) == targets).double().mean()
        return {"loss": float(nll_loss(probabilities.clamp(min=tiny).log(), targets)), "accuracy": float(right)}


@dataclass(frozen=True, kw_only=True)
class Tagging(_Audio):
    """Multi-label tagging: a sigmoid and binary cross-entropy for each tag.

    Args:
        data: The data set.
        net: See `Keyword`, as for `samples` and `chunks`.
        headline: The metric that the comparison is about.
        threshold: Least probability of a predicted tag, for F1.

    Raises:
        ValueError: A threshold outside 0 to 1, or a number below one.

    Examples:
        >>> task = Tagging().smoke()
        >>> task.loss(task.model(), next(iter(task.batches("train", batch_size=4)))).shape
        torch.Size([])
    """

    data: SoundData = field(default_factory=lambda: Tones(several=True))
    headline: Headline = field(default=ROC_AUC, metadata=FIXED)
    threshold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: must be from 0 to 1")

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean binary cross-entropy over tags and batch, in nats."""
        waves, tags = batch
        return binary_cross_entropy_with_logits(model(waves), tags)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each tag, `(..., tags)`."""
        return logits.sigmoid()

    def metrics(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics `loss` (mean, nats), and from 0 to 1 `roc_auc`, `pr_auc` and `f1`.

        The areas are means over the tags that some test clips have and others have not, `f1` is a mean over the clips.

        Raises:
            ValueError: There is no such tag.
        """
        if not all_finite(probabilities):
            return undefined(("loss", "roc_auc", "pr_auc", "f1"))
        loss = float(binary_cross_entropy(probabilities, targets))
        f1 = sample_f1(probabilities >= self.threshold, targets)
        return {"loss": loss} | areas(probabilities, targets) | {"f1": f1}


def areas(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """Macro-averaged areas under the ROC and the precision-recall curve, `roc_auc` and `pr_auc`, from 0 to 1.

    Args:
        probabilities: Of each tag, `(clips, tags)`; the areas are NaN if one is not finite.
        targets: Zeros and ones, likewise.

    Raises:
        ValueError: No tag has both clips with it and without it, or torchmetrics is not installed.

    Examples:
        >>> areas(torch.tensor([[0.9], [0.1], [0.2]]), torch.tensor([[1.0], [0.0], [0.0]]))
        {'roc_auc': 1.0, 'pr_auc': 1.0}
    """
    measure: Any = _torchmetrics()
    both = targets.bool().any(dim=0) & ~targets.bool().all(dim=0)
    if not both.any():
        raise ValueError("no tag has both test clips with it and without it, so there is nothing to rank")
    if not all_finite(probabilities):
        return undefined(("roc_auc", "pr_auc"))
    probabilities, targets = probabilities[:, both], targets[:, both].long()
    kinds = {"roc_auc": measure.binary_auroc, "pr_auc": measure.binary_average_precision}
    columns = list(zip(probabilities.T, targets.T, strict=True))
    return {name: fmean(float(area(each, target)) for each, target in columns) for name, area in kinds.items()}


def sample_f1(predicted: Tensor, targets: Tensor) -> float:
    """Mean over the clips of the F1 of their predicted tags; 0 for a clip of which no tag was found.

    Examples:
        >>> sample_f1(torch.tensor([[True, True], [True, False]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        0.5
    """
    from sklearn.metrics import f1_score  # costs a second to import

    return float(f1_score(targets.numpy() > 0, predicted.numpy(), average="samples", zero_division=0.0))  # type: ignore[arg-type]


def _torchmetrics() -> Any:
    try:
        import torchmetrics.functional.classification as measure
    except ImportError as error:
        raise ValueError("scores of tags need torchmetrics: pip install 'tangential[audio]'") from error
    return measure
