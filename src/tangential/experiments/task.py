"""Interface of a task: its data, its model, the losses that are minimised, and its scores.

Training and report use this of a task and nothing else. Random numbers of a loss or a score are drawn from torch's
generators, which are seeded and saved with a run; data loading may draw from Python's and NumPy's as well, which are
seeded for each fetch and put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

Split = Literal["train", "test"]
Record = dict[str, float]
T = TypeVar("T", bound="Task")


@dataclass(frozen=True)
class Objective:
    """Objective of one optimizer. Most tasks have one; two networks that play against each other have one each.

    Args:
        loss: Computes the training loss of one batch, a tensor without dimensions.
        parameters: What the optimizer is made from: parameters, or parameter groups. A group's key `lr_scale`
            multiplies the learning rate of the recipe for that group, as metric learning's proxies need it.
        name: Its name in records and checkpoints, where a task has several; empty for the only one.
    """

    loss: Callable[[nn.Module, Any], Tensor]
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]
    name: str = ""


@dataclass(frozen=True)
class Headline:
    """Main score of a comparison, and how it is shown.

    Args:
        name: Which of the task's scores it is.
        label: Its name on axes and in tables, with its unit: `accuracy (%)`.
        scale: What a score is multiplied with to be shown: 100 for a share shown in per cent.
        higher_is_better: Whether more is better; False for a perplexity.
    """

    name: str
    label: str
    scale: float = 1.0
    higher_is_better: bool = True


ACCURACY = Headline("accuracy", "accuracy (%)", scale=100.0)


class Task(Protocol):
    """A learning task: data, model, objectives and scores. A task never names an optimizer.

    Implementations are frozen dataclasses: their fields are the settings that decide a run.
    """

    @property
    def headline(self) -> Headline:
        """Main score of the comparison."""
        ...

    def batches(self, split: Split, *, batch_size: int, generator: torch.Generator | None = None) -> DataLoader[Any]:
        """Dataloader of one pass, shuffled by `generator` if there is one; the same at every call otherwise.

        Raises:
            ValueError: The data are not there; the error is one line: where to get them and where to put them.
        """
        ...

    def model(self) -> nn.Module:
        """New model, its weights drawn from torch's global generator."""
        ...

    def objectives(self, model: nn.Module) -> Sequence[Objective]:
        """Objectives, in the order in which a step takes them. The last one's loss is the `train_loss`."""
        ...

    def score(self, model: nn.Module, batches: Iterable[Any]) -> Record:
        """Scores of a model in evaluation mode, without gradients; the names become `test_<name>` in the record.

        A score that is not finite stops the run, so what is computed from NaN has to be NaN.
        """
        ...

    def smoke(self: T) -> T:
        """The same task on a few generated samples, for a run of seconds that needs no data."""
        ...
