"""A list of tensors with the operators of one tensor, so that `algorithm` steps a whole model in few launches."""

# pyright: reportPrivateImportUsage=false
# torch._foreach_* has no public name, but is what torch.optim itself and every optimizer library is built on

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class TensorList:
    """A list of tensors with arithmetic: one operator is at most one pass of `torch._foreach_*` over the list.

    A number that multiplies is kept aside until an operation takes it along for nothing, as `add(alpha=...)` does.

    Args:
        tensors: The list.
        factor: The number that multiplies it.
        passing: Whether this is a temporary result, so that a sum may be written over it. A formula may therefore
            add to a result once only.
    """

    def __init__(self, tensors: list[Tensor], factor: float = 1.0, *, passing: bool = False) -> None:
        self.bare = tensors
        self.factor = factor
        self._passing = passing

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors, multiplied."""
        return self.bare if self.factor == 1 else list(torch._foreach_mul(self.bare, self.factor))

    def _own(self) -> list[Tensor]:
        """The tensors, multiplied, in memory that may be written: their own where nobody else reads it."""
        if not self._passing:
            return list(torch._foreach_mul(self.bare, self.factor))
        if self.factor != 1:
            torch._foreach_mul_(self.bare, self.factor)
        return self.bare

    def __add__(self, other: Any) -> TensorList:
        if isinstance(other, TensorList) and self.factor == 1 and not self._passing:
            return _passing(torch._foreach_add(self.bare, other.bare, alpha=other.factor))
        out = self._own()
        if isinstance(other, TensorList):
            torch._foreach_add_(out, other.bare, alpha=other.factor)
        else:
            torch._foreach_add_(out, other)
        return _passing(out)

    def __mul__(self, other: Any) -> TensorList:
        if isinstance(other, TensorList):
            return _passing(torch._foreach_mul(self.bare, other.bare), self.factor * other.factor)
        return self.scaled(other)

    def scaled(self, by: float | Tensor) -> TensorList:
        """The product with a number or a 0-d tensor. `torch.compile` traces this, but no operator with a tensor."""
        if isinstance(by, Tensor):
            return _passing(torch._foreach_mul(self.bare, by), self.factor)
        return TensorList(self.bare, self.factor * by, passing=self._passing)

    def __truediv__(self, other: TensorList) -> TensorList:
        return _passing(torch._foreach_div(self.bare, other.bare), self.factor / other.factor)

    def __pow__(self, exponent: float) -> TensorList:
        assert exponent == 0.5, "only the root of a second moment is needed"
        return _passing(torch._foreach_sqrt(self.bare), self.factor**0.5)

    def __rpow__(self, base: float) -> TensorList:
        return _passing(torch._foreach_pow(base, self.tensors))

    def __rsub__(self, other: float) -> TensorList:
        return self * -1 + other

    def __rtruediv__(self, other: float) -> TensorList:
        return _passing(torch._foreach_reciprocal(self.bare), other / self.factor)


def _passing(tensors: Any, factor: float = 1.0) -> TensorList:
    return TensorList(list(tensors), factor, passing=True)
