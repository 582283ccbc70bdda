"""How each kind of policy treats a part: what happens before the base's step, and what after it.

A treatment is made once per part and step: `begin` keeps what the base would overwrite, the base steps, `finish`
writes the weights.
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tangential.radial.elements import treat_elements
from tangential.radial.parts import Part, vector_dtype
from tangential.radial.policy import Array, ElementPolicy, GradientPolicy, Policy, Step, StepPolicy, Sums, Terms
from tangential.radial.repair import Copies, PerBlock, Tensors, combine, elements, per_block, row_sums, tensors_of

States = MutableMapping[Any, dict[str, Any]]
_TEST = ("gg", "wg")
PREFIX = "radial_"
"""What the keys of a policy's state begin with, beside those of the base."""


@dataclass(frozen=True)
class Rule:
    """What a wrapper does to every part.

    Args:
        policy: The policy.
        relative: Whether steps are scaled to `lr` times the norm first.
        delta: Threshold of the paper's test.
        eps: Smallest norm that is divided by.
    """

    policy: Policy
    relative: bool
    delta: float
    eps: float

    @property
    def copies(self) -> bool:
        """Whether weights are compared with what they were before the base's step."""
        return self.relative or not isinstance(self.policy, GradientPolicy)


class Treatment:
    """One part's step.

    Args:
        rule: What to do.
        part: Weights that have gradients.
        step: Learning rate, decay and selection.
        state: The optimizer's state of every parameter.
    """

    def __init__(self, rule: Rule, part: Part, step: Step, state: States) -> None:
        self.rule, self.part, self.step, self.state = rule, part, step, state
        self.grads: list[Tensor | None] = []
        self.before: list[Tensor] = []

    def begin(self, copies: Copies) -> None:
        """Keep the weights, and give the base another gradient where the policy has one."""
        if isinstance(self.rule.policy, GradientPolicy):
            self.grads = [p.grad for p in self.part.params]
            room = [torch.empty_like(p) for p in self.part.params] if self.rule.copies else copies.like(self.part)
            _orthogonalize(self.rule, self.part, self.step, room)
        if self.rule.copies:
            self.before = copies.of(self.part)

    def restore(self) -> None:
        """Give the parameters their own gradients back; also after an error of the base."""
        for p, grad in zip(self.part.params, self.grads, strict=False):
            p.grad = grad

    def finish(self) -> None:
        """Write the weights that the policy wants."""
        policy = self.rule.policy
        if not self.rule.copies:
            return
        x, self.before = tensors_of(self.part, self.before), []
        if isinstance(policy, ElementPolicy):
            found = per_block(x, row_sums(x, ["ww", "wd", *_TEST]), delta=self.rule.delta, eps=self.rule.eps)
            treat_elements(policy, x, found, self.step)
        else:
            _treat_blocks(self.rule, x, self.part, self.step, self.state)


def selecting(device: torch.device) -> Callable[..., Tensor]:
    """`torch.where` whose numbers have the dtype of numbers per block: two floats would give float32."""
    dtype = vector_dtype(device)

    def where(condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(condition, Tensor):
            return a if condition else b
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            a = torch.full((), a, dtype=dtype, device=condition.device)
            b = torch.full((), b, dtype=dtype, device=condition.device)
        return torch.where(condition, a, b)

    return where


def _treat_blocks(rule: Rule, x: Tensors, part: Part, step: Step, state: States) -> None:
    """The new weight `A w + B s d - ratio decay w`, with `s` from relative steps, as factors on old and new weight."""
    policy = rule.policy if isinstance(rule.policy, StepPolicy) else None
    found = per_block(x, row_sums(x, _names(rule, part)), delta=rule.delta, eps=rule.eps)
    sums = _moved(found, step.decay, x)
    scale = _relative(sums, step) if rule.relative else 1.0
    terms = policy.terms(sums.scaled(scale), step, _kept(policy, part, found, state)) if policy else Terms(1.0, 1.0)
    ratio, change = rule.policy.decay_ratio(step), terms.change * scale
    keep = (terms.weight - change) + step.decay * (change - ratio)
    scales = rule.relative or (policy is not None and policy.scales)
    shift = None if terms.shift is None else found.per_row(terms.shift, 0.0)
    combine(x, found.per_row(keep, 0.0), found.per_row(change, 1.0) if scales else None, shift)
    if policy:
        _keep(policy, part, found, terms.kept, state)


def _names(rule: Rule, part: Part) -> list[str]:
    """The sums that are needed."""
    policy, names = rule.policy, ["ww", "wd"]
    if rule.relative or not isinstance(policy, StepPolicy) or policy.needs_length:
        names.append("dd")
    if isinstance(policy, StepPolicy) and policy.centers:
        names.append("sd")
    return [*names, *(_TEST if part.blocks == "cosine" else ())]


def _moved(found: PerBlock, decay: Any, x: Tensors) -> Sums:
    """Sums with `d` as the base's step without its decay: `d = moved + decay w`."""
    sums = found.sums
    ww, wm = sums["ww"], sums["wd"]
    dd = sums["dd"] + 2 * decay * wm + decay * decay * ww if "dd" in sums else 0.0
    return Sums(
        ww=ww, wd=wm + decay * ww, dd=dd, sd=sums.get("sd", 0.0), n=found.total(elements(x)) if "sd" in sums else 1.0
    )


def _relative(sums: Sums, step: Step) -> Array:
    """What makes a step as long as `lr` times the weight; 1 for a weight without length, or a step that is rounding."""
    scale = step.ratio(step.lr * sums.ww**0.5, step.length(sums.dd))
    return step.where((sums.ww > 0) & ~step.is_lost(sums.dd, sums.ww), scale, 1.0)


def _kept(policy: StepPolicy, part: Part, found: PerBlock, state: States) -> tuple[Tensor, ...]:
    """The policy's state of all blocks, one weight behind the other; zeros at the first step."""
    zeros = torch.zeros_like(found.sums["ww"]).split(found.counts) if policy.names else ()
    return tuple(
        torch.cat([state.get(p, {}).get(PREFIX + name, z) for p, z in zip(part.params, zeros, strict=True)])
        for name in policy.names
    )


def _keep(policy: StepPolicy, part: Part, found: PerBlock, kept: tuple[Array, ...], state: States) -> None:
    for name, values in zip(policy.names, kept, strict=True):
        for p, value in zip(part.params, values.split(found.counts), strict=True):
            own = state[p]
            if PREFIX + name in own:
                own[PREFIX + name].copy_(value)
            else:
                own[PREFIX + name] = value.clone()


def _orthogonalize(rule: Rule, part: Part, step: Step, room: list[Tensor]) -> None:
    """Replace the gradients by `a g + b w`, in the room that is given for them."""
    policy = rule.policy
    assert isinstance(policy, GradientPolicy)
    x = tensors_of(part)
    found = per_block(x, row_sums(x, ["ww", *_TEST]), delta=rule.delta, eps=rule.eps)
    a, b = policy.gradient(found.sums["ww"], found.sums["wg"], found.sums["gg"], step)
    given = [new.copy_(p.grad) for new, p in zip(room, part.params, strict=True)]  # type: ignore[arg-type]
    as_weights = replace(x, weights=[torch.view_as_real(g) if g.is_complex() else g for g in given])
    combine(as_weights, found.per_row(b, 0.0), found.per_row(a, 1.0))
    for p, grad in zip(part.params, given, strict=True):
        p.grad = grad.to(p.grad.dtype) if p.grad is not None else grad
