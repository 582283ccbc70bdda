"""Which call absorbs the scale of a weight.

The model runs twice, once as it is and once with every accepted block rescaled. The first run stores a checksum (the
sum and the norm) of every tensor that a torch function returns, in the order of the calls. In the second, a result
whose checksum differs carries the names of the rescaled weights that went into it; a call whose inputs carry names
and whose result is the same has absorbed them. No rule about any operation is needed. Where the two runs take
different routes, the calls no longer pair up, and nothing is recorded: no explanation is better than a wrong one. Nor
is a call recorded whose results cannot be summed; an explanation never fails the analysis.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tangential.invariances.epsilons import TINIEST
from tangential.invariances.float64 import Float64Mode, function_name
from tangential.invariances.verdicts import Absorber

_SAME = 1e-8
_MARK = "_tangential_carried"

Checksum = tuple[str, list[tuple[float, float]]]
"""An operation's name, and the sum and the norm of every tensor it returned."""


class Trace(Float64Mode):
    """Records what each call returns or, given such a record, which weights' scales each result still carries.

    Args:
        model: The model that will run.
        weights: The weights that are rescaled in this run, by name.
        checksums: What a run without rescaling recorded; without it, this run records.
        held: See `Float64Mode`.

    Attributes:
        checksums: What this run recorded.
        absorbed: Where the scale of each weight was absorbed, in the order of the run; some may have no answer.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, Tensor] | None = None,
        checksums: Sequence[Checksum] = (),
        held: Collection[int] = (),
    ):
        super().__init__(TINIEST, held)
        self.checksums: list[Checksum] = []
        self.absorbed: dict[str, list[Absorber]] = defaultdict(list)
        self._model = model
        self._weights = weights or {}
        self._expected = checksums
        self._calls = 0
        self._modules: list[tuple[str, nn.Module]] = [("", model)]

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        carried = _carried((args, kwargs))
        out = super().__torch_function__(func, types, args, kwargs)
        name = function_name(func)
        results = [tensor for tensor in _tensors(args[0] if name == "__setitem__" and args else out) if tensor.numel()]
        if results:
            self._record(name, results, carried)
        return out

    def _record(self, op: str, results: list[Tensor], carried: frozenset[str]) -> None:
        """Note one call. What has no sum (sparse, nested, inside `vmap`, without values) is a call without results."""
        try:
            if not self._expected:
                self.checksums.append((op, [_checksum(result) for result in results]))
            elif carried:
                self._follow(op, results, carried)
        except Exception:
            if not self._expected:
                self.checksums.append((op, []))
        self._calls += 1

    def _follow(self, op: str, results: list[Tensor], carried: frozenset[str]) -> None:
        name, checksums = self._expected[self._calls] if self._calls < len(self._expected) else ("", [])
        if name != op or len(checksums) != len(results):
            return  # the two runs took different routes: no explanation rather than a wrong one
        same = [_agree(before, _checksum(result)) for before, result in zip(checksums, results, strict=True)]
        for result, unchanged in zip(results, same, strict=True):
            setattr(result, _MARK, frozenset() if unchanged else carried)
        # A view of the part that was not rescaled absorbs nothing.
        if any(unchanged and not result._is_view() for result, unchanged in zip(results, same, strict=True)):
            self._absorb(op, carried)

    def _absorb(self, op: str, carried: frozenset[str]) -> None:
        name, module = self._modules[-1]
        absorber = Absorber(name, type(module).__name__, op)
        for weight in carried:
            if absorber not in self.absorbed[weight]:
                self.absorbed[weight].append(absorber)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the stack of running modules, and mark the weights with their names."""
        handles: list[Any] = []
        for name, module in self._model.named_modules():
            with contextlib.suppress(RuntimeError):  # a scripted function takes no hooks
                handles.extend(self._hooks(name, module))
        for name, weight in self._weights.items():
            setattr(weight, _MARK, frozenset((name,)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for weight in self._weights.values():
                delattr(weight, _MARK)

    def _hooks(self, name: str, module: nn.Module) -> Iterator[Any]:
        yield module.register_forward_pre_hook(lambda *_: self._modules.append((name, module)))
        yield module.register_forward_hook(lambda *_: self._modules.pop() and None, always_call=True)


def _carried(arguments: Any) -> frozenset[str]:
    return frozenset().union(*(getattr(tensor, _MARK, ()) for tensor in _tensors(arguments)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _checksum(tensor: Tensor) -> tuple[float, float]:
    tensor = tensor.detach()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return float(tensor.sum()), float(torch.linalg.vector_norm(tensor))


def _agree(before: tuple[float, float], after: tuple[float, float]) -> bool:
    scale = _SAME * max(before[1], after[1])
    return all(abs(a - b) <= scale for a, b in zip(before, after, strict=True))
