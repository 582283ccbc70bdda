"""A task whose loss is another at every call, so that no scale-invariance can be found."""

import itertools
from dataclasses import dataclass

import torch

from support.noisy_task import Noisy


@dataclass(frozen=True)
class Drifting(Noisy):
    """A task whose loss is another at every call, so that nothing can be found."""

    def model(self):
        class Drift(torch.nn.Linear):
            calls = itertools.count(1)  # an iterator cannot be put back

            def forward(self, x):
                return super().forward(x) * next(Drift.calls)

        return Drift(3, 1)
