"""`find_invariances`: which weights of a model are scale-invariant, and in which blocks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from tangential.invariances.analysis import analyse
from tangential.invariances.example_call import ExampleCall
from tangential.invariances.isolation.copying import refuse, unwrapped
from tangential.invariances.isolation.process import isolated, memory_advice
from tangential.invariances.result import Invariances


def find_invariances(
    model: nn.Module,
    /,
    *args: Any,
    forward: Callable[..., Any] | None = None,
    samples: int = 3,
    seed: int = 0,
    **kwargs: Any,
) -> Invariances:
    """Scale-invariant weights of a model: which may be rescaled, in which blocks, without changing the loss.

    The model runs a few times on one example batch, in float64, on a copy. The model, its mode, the batch, random
    states, and what the model's code keeps elsewhere (attributes of classes, tables at module level and in
    `lru_cache`, lists that hooks fill) are afterwards as they were, after an error or Ctrl-C as well; files and other
    processes are not looked after. Random states and compiled functions belong to the process, so run it where no
    other thread draws random numbers or runs the same model; analyses wait for each other.

    A block `b` of a weight is scale-invariant exactly if `<w_b, dL/dw_b> = 0` everywhere (Euler's identity; arXiv
    2006.08217, section 2.1). That is measured at a few generic points with the epsilons of the normalisations shrunk
    away, and what passes is rescaled by up to 2^8 and must leave the outputs alone. Then it is measured with the real
    epsilons; `explain` states what depends on them.

    Analyse the model in the mode it will train in: a normalisation that is frozen with `.eval()` makes nothing
    invariant. The batch should be a usual one of some samples; what it does not reach is reported as inconclusive.

    Args:
        model: Any module. Wrappers of DistributedDataParallel and torch.compile are looked through.
        *args: The example batch: what the model is called with, on the model's device.
        forward: Called as `forward(model, *args, **kwargs)` instead of the model, and returns the loss or the
            outputs. Use it for models that are not simply called, for losses that normalise, and where an argument of
            the model is named like one of these options: `forward=lambda m: m(batch, samples=5)`. It must use the
            model it is given.
        samples: Random points at which a weight must pass.
        seed: For the random points.
        **kwargs: More of the batch, by name.

    Returns:
        A mapping from parameter names to `Blocks`, or None for what an optimizer must leave alone, with the reasons.

    Raises:
        TypeError: The model is not a module, or an option has the wrong type.
        ValueError: The model cannot be analysed (no trainable parameters, sharded, not initialised, not copyable),
            fails on the batch, returns nothing with a gradient, or returns something else on every run.
        MemoryError: It does not fit; CUDA's own error is passed on likewise.

    Warns:
        UserWarning: The model is in evaluation mode and was analysed in training mode; it is a graph that was
            exported in evaluation mode; or weights are invariant only up to an epsilon that is not small here.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 5))
        >>> found = find_invariances(net, torch.randn(4, 3, 8, 8))
        >>> found["0.weight"], found["3.weight"]
        (Blocks(dim=0, size=1, segments=None), None)
        >>> print(found.explain("0.bias"))
        0.bias (8): dead. Its true gradient is zero; what arrives is rounding. It is never projected.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ValueError(f"find_invariances: samples={samples!r} must be a positive integer; {_CLASH}")
    if forward is not None and not callable(forward):
        raise TypeError(f"find_invariances: forward={forward!r} must be callable; {_CLASH}")
    target = unwrapped(model)
    refuse(target)
    with isolated(), memory_advice():
        verdicts = analyse(target, ExampleCall(forward, args, kwargs), samples, seed)
    notes = [note for note, holds in ((_EVALUATION, not target.training), (_EXPORTED, _is_frozen(target))) if holds]
    parameters = dict(target.named_parameters())
    found = Invariances(verdicts.values(), parameters=parameters, aliases=_aliases(target), notes=tuple(notes))
    _warn(found)
    return found


_CLASH = "an argument of the model with this name goes through forward=lambda m: m(...)"
_EVALUATION = "the model is in evaluation mode; it was analysed as model.train() leaves it"
_EXPORTED = (
    "the model was exported in evaluation mode, where norms divide by stored averages and no weight before them is"
    " invariant; export it in training mode, torch.export.export(model.train(), ...)"
)


def _is_frozen(model: nn.Module) -> bool:
    """Whether norms of a graph of torch.export, which has one mode only, were exported in evaluation mode."""
    norms = (torch.ops.aten.batch_norm.default, torch.ops.aten.instance_norm.default)
    nodes = model.graph.nodes if isinstance(model, GraphModule) else ()
    return any(node.target in norms and node.args[5] is False for node in nodes)


def _aliases(model: nn.Module) -> dict[str, str]:
    """The further names of shared parameters."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}


def _warn(found: Invariances) -> None:
    for note in found.notes:
        warnings.warn(f"find_invariances: {note}", UserWarning, stacklevel=3)
    doubtful = [name for name in found if found.verdict(name).doubtful]
    if doubtful:
        shown = ", ".join(doubtful[:5]) + (", ..." if len(doubtful) > 5 else "")
        warnings.warn(
            f"find_invariances: {len(doubtful)} of the scale-invariant weights have blocks that an epsilon keeps from "
            f"being quite so (a cosine above 0.1/sqrt(d)): {shown}. "
            "explain(name) says how many; found[name] = None leaves a weight alone",
            UserWarning,
            stacklevel=3,
        )
