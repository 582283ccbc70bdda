"""The user's call: the example batch, how the model is run on it, and what counts as its outputs."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tangential.invariances.isolation.copying import Float64Copies
from tangential.invariances.isolation.process import out_of_memory


@dataclass(frozen=True)
class ExampleCall:
    """How the user runs the model: `model(*args, **kwargs)`, or `forward(model, *args, **kwargs)`.

    Examples:
        >>> import torch
        >>> print(ExampleCall(None, (torch.zeros(4, 3),), {"mask": None}))
        model(float32[4, 3], mask=None)
    """

    forward: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, model: nn.Module) -> list[Tensor]:
        """Run the model on a fresh copy of the batch, which it may change in place.

        Returns:
            Every tensor that a loss could be made of.

        Raises:
            ValueError: The call failed, or nothing it returned has a gradient.
        """
        try:
            found = list(differentiable(self._run(model)))
        except Exception as error:
            if out_of_memory(error):
                raise
            raise ValueError(
                f"find_invariances: {self} failed in a float64 copy of the model in training mode: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not found:
            raise ValueError(
                f"find_invariances: nothing that {self} returned has a gradient; "
                "return the loss or the outputs, not detached, from the model or from forward="
            )
        return found

    def _run(self, model: nn.Module) -> Any:
        args, kwargs = _fresh((self.args, dict(self.kwargs)))
        if self.forward is not None:
            return self.forward(model, *args, **kwargs)
        return model(*args, **{**_mode(model), **kwargs})

    def __str__(self) -> str:
        words = [_word(value) for value in self.args] + [f"{name}={_word(v)}" for name, v in self.kwargs.items()]
        return f"model({', '.join(words)})" if self.forward is None else f"forward({', '.join(['model', *words])})"


def _mode(model: nn.Module) -> dict[str, bool]:
    """The mode as an argument, for Keras layers: without it, they run for inference outside of Keras's own `fit`."""
    keras = sys.modules.get("keras")
    return {"training": model.training} if keras is not None and isinstance(model, keras.Layer) else {}


_CACHE_ENTRY = re.compile(r"(^|_)(caches?|past|mems|kv)(_|$)")
"""Transformers: `past_key_values`, `cache_params`, `mems`; in 5.24 `cache` and `encoder_cache`."""


def differentiable(returned: Any) -> Iterator[Tensor]:
    """The tensors in an output that a loss may be made of, each once.

    An output with a `loss`, as Transformers models return when they get labels, stands for its loss alone, and caches
    for the next call do not count, since no loss is made of them: entries whose name holds the word `cache`, `past`,
    `mems` or `kv`, and objects of a class whose name ends in `Cache`, wherever they stand. The keys and values in them
    are not normalised, so a cache that counted would make every value projection variant.
    """
    seen: set[int] = set()
    for tensor in _tensors(returned, depth=4):
        if tensor.requires_grad and id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _tensors(item, depth)
    elif _is_cache(value):
        return
    elif depth and (entries := _entries(value)):
        loss = entries.get("loss")
        counted = [loss] if isinstance(loss, Tensor) and loss.requires_grad else _without_caches(entries)
        for item in counted:
            yield from _tensors(item, depth - 1)


def _entries(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    return {} if isinstance(value, (nn.Module, type)) else getattr(value, "__dict__", {})


def _without_caches(entries: Mapping[Any, Any]) -> list[Any]:
    return [item for name, item in entries.items() if not (isinstance(name, str) and _CACHE_ENTRY.search(name))]


def _is_cache(value: Any) -> bool:
    return any(kind.__name__.endswith("Cache") for kind in type(value).__mro__)


def _fresh(batch: Any) -> Any:
    """A copy of a batch in float64, objects and all; what cannot be copied is passed on as it is."""
    memo: dict[int, Any] = {}
    with Float64Copies():
        try:
            return copy.deepcopy(batch, memo)
        except Exception:
            return _fresh_in_part(batch, memo)


def _fresh_in_part(value: Any, memo: dict[int, Any]) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_fresh_in_part(item, memo) for item in value)
    if type(value) is dict:
        return {name: _fresh_in_part(item, memo) for name, item in value.items()}
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return value


def _word(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (list, tuple)) and value:
        return f"[{_word(value[0])}{', ...' if len(value) > 1 else ''}]"
    return repr(value) if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__
