"""`Radial`: any torch optimizer, with a policy for the radial part of its steps.

    before    the weights of a part are copied, or their gradients replaced
    base      the optimizer steps them as it always does, its decay included
    after     the policy's formula turns what it did into what is wanted; other weights are left as they are

The base's groups, state and settings are the wrapper's own, by identity. The policy's state lies in the base's state
dict, in entries that begin with `radial_`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.backends.opmath import opmath_dtype
from tangential.blocks import Blocks
from tangential.optimizers.summary import summary
from tangential.radial.base_step import bare_step, hooks_of, only, step_treated
from tangential.radial.bases import check_base, is_decoupled, steps_one_by_one
from tangential.radial.centering import center
from tangential.radial.initial_state import make_state
from tangential.radial.parts import BlockFinder, Part, Partition, check_gradients
from tangential.radial.policy import ElementPolicy, Policy, Step, StepPolicy, check_numbers
from tangential.radial.projections import Project
from tangential.radial.repair import Copies
from tangential.radial.treatments import PREFIX, Rule, Treatment, selecting


class Radial(Optimizer):
    """An optimizer whose steps on scale-invariant weights follow a policy; on all others they are the base's.

    Everything around an optimizer works on the wrapper: schedulers, closures, hooks, `GradScaler`, Accelerate, `watch`.
    Its groups and state are those of `base`, and its state dict is the base's with the policy's entries in it.

    Decoupled weight decay of the base acts along the weight, where most policies act: on treated weights it is the
    base's times the policy's `wd_ratio`. Decay that is coupled to the gradient (L2) is part of the base's step.

    Args:
        base: The optimizer, made as ever.
        policy: One of `tangential.radial`; the paper's projection by default.
        invariances: Which parts of which weights are scale-invariant: what `find_invariances` gives, a mapping from
            parameters or names to `Blocks` or None, a `Blocks` for all matrices, or "cosine", the paper's test at every
            step. None takes `blocks` of the parameter groups, and the paper's test where there are none.
        steps: "raw", or "relative": steps are scaled to `lr` times the norm of their block before the policy.
        decoupled: Whether the base multiplies weights by `1 - lr * weight_decay`; None where it is known.
        split: Whether the base may be stepped a part of the weights at a time, so that the copy is no larger than the
            largest weight; None where it is known. Otherwise all treated weights are copied.
        delta: The paper's test fires below `delta / sqrt(elements of a channel, or of the weight)`.
        eps: Smallest norm that is divided by.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A combination that makes no sense, or weights that cannot be treated; the message says why.

    Examples:
        >>> import torch
        >>> from tangential.radial import Project
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> optimizer = Radial(torch.optim.NAdam(model.parameters(), lr=1e-3), Project())
        >>> model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        >>> optimizer.step()
    """

    __module__ = "tangential.radial"

    _blocks: ClassVar[Any] = "cosine"
    """Blocks of the weights of groups that have none of their own."""
    _least_ndim: ClassVar[int] = 2
    """Dimensions that a weight must have for those blocks to count."""

    def __init__(
        self,
        base: Optimizer,
        policy: Policy | None = None,
        invariances: Any = None,
        *,
        steps: str = "raw",
        decoupled: bool | None = None,
        split: bool | None = None,
        delta: float = 0.1,
        eps: float = 1e-8,
    ) -> None:
        policy = Project() if policy is None else policy
        _check_arguments(policy, steps, decoupled, split)
        check_numbers("Radial", "finite and at least 0", delta=delta, eps=eps)
        check_base(base, Radial)
        self.base = base
        self.policy = policy
        self._rule = Rule(policy, steps == "relative", delta, eps)
        self._invariances, self._decoupled = invariances, decoupled
        self._split = steps_one_by_one(base) if split is None else split
        self._copies = Copies(kept=True)
        # torch's constructor would make groups of its own; what it sets up besides, it sets up when it unpickles
        super().__setstate__({"defaults": base.defaults})
        self._partition = self._partitioned()
        if isinstance(policy, StepPolicy) and policy.centers:
            center(self._partition.parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The base's groups."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The base's state, with the policy's entries."""
        return self.base.state

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in vars(self).items() if "_hooks" not in key}
        return {**kept, "_copies": Copies(kept=True)}

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({self.policy!r} over {summary(self.base)})"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base. See `torch.optim.Optimizer.add_param_group`."""
        self.base.add_param_group(param_group)
        try:
            self._partition = self._partitioned()
        except (TypeError, ValueError):
            self.base.param_groups.pop()
            raise

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, as the base does. See `torch.optim.Optimizer.zero_grad`."""
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The base's state dict, with the policy's entries. See `torch.optim.Optimizer.state_dict`."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        saved = self.base.state_dict()
        for group in saved["param_groups"]:  # plain values, which `torch.load` reads by default
            if isinstance(group.get("blocks"), Blocks):
                group["blocks"] = group["blocks"].plain
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, saved)
            saved = saved if changed is None else changed
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the base's state and the policy's. See `torch.optim.Optimizer.load_state_dict`.

        A state dict of the bare base continues it; the policy starts afresh, from the weights as they are.
        """
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self.base.load_state_dict(state_dict)
        self._restore(state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Put blocks and the policy's entries back as they were: torch rounds all state to the dtype of its weight."""
        for group in self.param_groups:
            if isinstance(group.get("blocks"), (tuple, list)):
                group["blocks"] = Blocks(*group["blocks"])
        ids = chain.from_iterable(group["params"] for group in saved["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for p, key in zip(params, ids, strict=False):
            for name, value in saved["state"].get(key, {}).items():
                if str(name).startswith(PREFIX) and isinstance(value, Tensor):
                    self.state[p][name] = value.detach().to(p.device, copy=True)

    def init_state(self) -> None:
        """Make the state of every parameter now, as checkpoint libraries may want it before the first step.

        Weights, gradients, settings and counts of steps stay as they are. The buffer of SGD with dampening is still
        made by its first step, which no buffer made before could equal.
        """
        make_state(self.base)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step of the base, under the policy.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: A sparse gradient of a treated weight, or settings that the policy makes no sense with; no
                weight has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._partition.holds(self.param_groups):
            self._partition = self._partitioned()
        parts = [part for each in self._partition.parts if (part := each.with_gradient()).params]
        treatments = [self._treatment(part) for part in parts]
        with hooks_of(self.base):
            self._move(treatments, bare_step(self.base))
        self.base._opt_called = True  # type: ignore[attr-defined] # schedulers of the base look for it
        return loss

    def _move(self, treatments: Sequence[Treatment], base_step: Callable[[], Any]) -> None:
        """Step what is treated, part by part if the base allows it, and the rest."""
        if not self._split:
            step_treated(treatments, base_step, Copies(kept=False))
            return
        for treatment in treatments:
            part = treatment.part
            with only(self.base, [part.params if part.group is group else [] for group in self.param_groups]):
                step_treated([treatment], base_step, self._copies)
        if any(self._partition.rest) or not treatments:
            with only(self.base, self._partition.rest):
                base_step()

    def _treatment(self, part: Part) -> Treatment:
        """The step of one part, with its settings checked."""
        check_gradients(part)
        group = part.group
        decay = group["lr"] * group["weight_decay"] if self._decays(group) else 0.0
        step = Step(
            lr=group["lr"],
            decay=decay,
            eps=self._rule.eps,
            rounding=torch.finfo(opmath_dtype(part.params[0].dtype)).eps,
            where=selecting(part.params[0].device),
            group=group,
            base=self.base,
        )
        self.policy.decay_ratio(step)  # raises for settings that it does not fit
        return Treatment(self._rule, part, step, self.state)

    def _decays(self, group: dict[str, Any]) -> bool:
        return is_decoupled(self.base, group, self._decoupled)

    def _partitioned(self) -> Partition:
        """The parts, after all groups that have treated weights have been checked."""
        name = type(self.policy).__name__
        find = BlockFinder(self.param_groups, self._invariances, self._blocks, self._least_ndim)
        partition = Partition(self.param_groups, find, known_only=self.policy.known_only, policy=name)
        for group in {id(part.group): part.group for part in partition.parts}.values():
            if reason := self.policy.refuse(self.base, group, self._decays(group)):
                raise ValueError(reason)
        return partition


def _check_arguments(policy: Any, steps: Any, decoupled: Any, split: Any) -> None:
    if isinstance(policy, type) or not isinstance(policy, Policy):
        raise TypeError(f"policy={policy!r}: must be a policy of tangential.radial, such as Project()")
    if steps not in ("raw", "relative"):
        raise ValueError(f"steps={steps!r}: must be 'raw' or 'relative'")
    if steps == "relative" and policy.turns:
        raise ValueError(f"steps='relative' with {type(policy).__name__}: it sets the size of steps itself; use 'raw'")
    if steps == "relative" and isinstance(policy, ElementPolicy):
        raise ValueError(
            f"steps='relative' with {type(policy).__name__}: it compares elements of the base's own step; use 'raw'"
        )
    for name, value in (("decoupled", decoupled), ("split", split)):
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"{name}={value!r}: must be True, False or None")
