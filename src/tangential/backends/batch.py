"""What a backend is handed: tensors of one device, dtype, step count and kind of blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tangential.algorithm import Projection, Rule
from tangential.blocks import Blocks


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Weights that take one step together.

    Args:
        weights: Real tensors of one device and dtype, none of them empty.
        grads: Their gradients, read and never written.
        moments: One list per moment of the rule, in its order; float32 at least.
        t: The step count all of them have, or one float64 0-d tensor each.
        blocks: "cosine" (the paper's test), a `Blocks`, or None for weights that are not projected.
        rule: From a step count to the rule of this step.
        projection: The settings of lines 6 to 9.
    """

    weights: list[Tensor]
    grads: list[Tensor]
    moments: tuple[list[Tensor], ...]
    t: float | list[Tensor]
    blocks: Blocks | str | None
    rule: Callable[[Any], Rule]
    projection: Projection

    @property
    def dim(self) -> int:
        """The dimension along which sums are kept: that of the blocks, or the output channels."""
        return self.blocks.dim if isinstance(self.blocks, Blocks) else 0
