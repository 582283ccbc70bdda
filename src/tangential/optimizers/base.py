"""Base class of SGDP and AdamP: parameter groups, state, state dicts and the order of events in a step.

A group's dict comes in with its settings and parameters, `add_param_group` checks both. `step` makes one `GroupStep` of
each group (weights, gradients, moments, step counts as parallel lists), checks all gradients before the first weight is
moved, and hands the group steps to the backends; the arithmetic is in `tangential.algorithm`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.algorithm import Projection, Rule
from tangential.backends import DECISION, FusedStep, GroupStep, apart, choose, unscaled, walk
from tangential.backends.dtensor import is_dtensor
from tangential.optimizers.checked_group import CheckedGroup, States, sharded_step
from tangential.optimizers.columns import fill_columns
from tangential.optimizers.first_state import moves_nothing, uncount
from tangential.optimizers.origins import Origin
from tangential.optimizers.settings import check_keys, check_settings, precise, scalar
from tangential.optimizers.state_dict import Checked, readable, to_plain
from tangential.optimizers.summary import summary
from tangential.optimizers.validation import check_capture, check_members, check_params, check_state_shapes
from tangential.sharding import ShardedStep, in_use

Params = Iterable[Any]
"""Parameters, `(name, parameter)` pairs, or groups of either."""
_grad = attrgetter("grad")


class Projected(Optimizer):
    """A torch optimizer whose steps are projected; a subclass adds its rule (`Sgd`, `Adam`) and its weight decay."""

    _moments: ClassVar[tuple[str, ...]]
    _origins: ClassVar[tuple[Origin, ...]]
    _kernels: FusedStep | None = None

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        check_params(params, type(self).__name__)
        check_settings(defaults)
        self._checked: dict[int, CheckedGroup] = {}
        super().__init__(params, defaults)

    def __repr__(self) -> str:
        return summary(self)

    def _rule(self, group: dict[str, Any], t: Any) -> Rule:
        raise NotImplementedError

    def _decay(self, group: dict[str, Any]) -> float | Tensor:
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked as the constructor's arguments are. See `torch.optim.Optimizer`."""
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(
                f"a parameter group must be a dict with the key 'params'; {type(param_group).__name__} came"
            )
        check_keys(param_group, self.defaults, type(self).__name__)
        check_settings({**self.defaults, **param_group})
        if not isinstance(param_group["params"], (Tensor, set)):
            param_group["params"] = check_members(param_group["params"], type(self).__name__)
        super().add_param_group(param_group)
        try:
            self._checked[id(param_group)] = CheckedGroup(param_group)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @property
    def backend(self) -> str:
        """Backends in use: "fused", "foreach" or "eager", or several of them joined by a plus.

        Parameters that the kernel cannot step (other dtypes and devices, layouts with gaps) are left to foreach, as
        are DTensors whose ranks add up sums first; lazy ones count from their first batch on.
        """
        return in_use(self.param_groups)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `torch.amp.GradScaler` leaves unscaling to `step`: the CUDA kernel does it without a read-back.

        As with torch's optimizers, only if `fused=True` was said: trainers that clip gradients want them unscaled
        before, and Lightning refuses to clip those of an optimizer that unscales by itself.
        """
        here = all(p.is_cuda and not is_dtensor(p) for group in self.param_groups for p in group["params"])
        return here and all(group["fused"] for group in self.param_groups)

    def __setstate__(self, state: dict[str, Any]) -> None:
        groups, checked = getattr(self, "param_groups", []), getattr(self, "_checked", {})
        own = {p: x.entries if isinstance(x, Checked) else x for p, x in state["state"].items()}
        super().__setstate__({**state, "state": defaultdict(dict, own)})
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        kept = [checked.get(id(group)) for group in groups]
        self._checked = {}
        for group, before in zip(self.param_groups, kept, strict=False):
            if before is not None and before.holds(group["params"]):
                before.group = group
                self._checked[id(group)] = before

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values, which `torch.load` reads by default. See `torch.optim.Optimizer.state_dict`."""
        return to_plain(super().state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any], *, allow: Collection[str] = ()) -> None:
        """Load the state bit for bit. See `torch.optim.Optimizer.load_state_dict`.

        Parameters are matched by `param_names` where the state dict and the optimizer have them, else by place.
        Settings that the state dict has are taken over, those that it lacks stay as they are. State of
        `torch.optim.AdamW` and `SGD`, and of other packages' AdamP and SGDP, is read where the next step would be the
        same; one line of the logger `tangential` states what was taken, filled and lost.

        Args:
            state_dict: What `state_dict` of this or another optimizer returned.
            allow: What of another optimizer's state may be lost, by the names that the refusal gives, like
                `("amsgrad",)`.

        Raises:
            TypeError: Something of another type than a state dict has there; nothing is loaded then.
            ValueError: Another optimizer's state, or one that does not fit the weights; nothing is loaded then.
        """
        names = frozenset([allow] if isinstance(allow, str) else allow)
        # the last hook, so it sees what the others have made of the state dict
        check = self.register_load_state_dict_pre_hook(
            lambda _, given: readable(self, given, moments=self._moments, origins=self._origins, allow=names)
        )
        try:
            super().load_state_dict(dict(state_dict) if isinstance(state_dict, Mapping) else {"": state_dict})
        finally:
            check.remove()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. A first step with `lr` 0 and zero gradients makes the state, and is not counted.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: A CUDA graph captures the step of groups that are not `capturable`, or their first step.
            TypeError: A setting of the wrong type was written into a group; no weight has been changed then.
            ValueError: A sparse gradient, a setting out of range, or a parameter that was exchanged or resized so that
                its group does not fit it any more; no weight has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not torch.compiler.is_compiling():
            check_capture(self.param_groups)
        is_first = not self.state
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            group_steps = self.group_steps()
            blank = is_first and moves_nothing(self.param_groups)
            sharded = sharded_step(self._checked.values(), self.param_groups, group_steps, self.state, self._moments)
            if sharded is None:
                self._check_tensors(group_steps, self.state, self.param_groups)
                self._move(group_steps, self.state)
            else:
                self._step_sharded(sharded)
            if blank:
                uncount(self.state)
        return loss

    def _step_sharded(self, sharded: ShardedStep) -> None:
        """Step the local parts of all parameters, those that wait for no message while the messages are under way."""
        # a compiler would make entries in the state of what it takes to be missing there
        states = {} if torch.compiler.is_compiling() else sharded.states(self.state)
        for group_step in sharded.joint:
            group_step.check()
        self._check_tensors(sharded.local, states)
        sharded.send()
        self._move(sharded.local, states)
        sharded.finish()

    def _check_tensors(self, group_steps: list[GroupStep], states: States, groups: Sequence[Any] = ()) -> None:
        """Check all parameters, gradients and moments, except those that are as they were when a kernel was planned."""
        fused = [group_step for group_step in group_steps if group_step.backend == "fused"]
        if fused:
            self._kernels = self._kernels or FusedStep()
        known = self._kernels is not None and self._kernels.fits(fused)
        for i, group_step in enumerate(group_steps):
            if not known or group_step.backend != "fused":
                if groups and not torch.compiler.is_compiling():
                    self._checked[id(groups[i])].check_shapes(self.state, self._moments)
                group_step.check()
        if fused and self._kernels is not None and not known:
            self._kernels.plan(fused, states)

    def _move(self, group_steps: list[GroupStep], states: States) -> None:
        """Step what has been checked."""
        for group_step in group_steps if torch.compiler.is_compiling() else self._fused_step(group_steps, states):
            walk(group_step)

    def _fused_step(self, group_steps: list[GroupStep], states: States) -> list[GroupStep]:
        """Step what a kernel takes; the rest is returned."""
        scale, found = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if self._kernels is None or not self._kernels.take_all(group_steps):
            group_steps = apart(group_steps)
        fused = [group_step for group_step in group_steps if group_step.backend == "fused"]
        others = unscaled([group_step for group_step in group_steps if group_step.backend != "fused"], scale, found)
        if fused and self._kernels is not None:
            others += self._kernels.step(fused, scale, found)
        for group_step in others:
            for p, decision in zip(group_step.weights, group_step.decisions, strict=True):
                if decision is not None:  # no kernel keeps it up to date any more
                    del states[p][DECISION]
        return others

    def group_steps(self) -> list[GroupStep]:
        """The tensors and settings of the next step, one entry per parameter group; telemetry reads them first."""
        return [self._group_step(group) for group in self.param_groups]

    def _group_step(self, group: dict[str, Any]) -> GroupStep:
        weights: list[Tensor] = []
        grads: list[Tensor] = []
        steps: list[Tensor] = []
        moments: list[list[Tensor]] = [[] for _ in self._moments]
        votes: list[Tensor] = []
        remainders: list[Tensor] = []
        decisions: list[Tensor | None] = []
        traced = torch.compiler.is_compiling()  # the compiler knows lists of tensors only
        self._init_group(group, weights, grads, steps, votes, remainders, *moments, *([] if traced else [decisions]))
        settings = {name: scalar(group[name]) for name in ("delta", "eps", "wd_ratio")}
        return GroupStep(
            weights=weights,
            grads=grads,
            moments=tuple(moments),
            steps=steps,
            votes=votes,
            decisions=[None] * len(weights) if traced else decisions,
            remainders=remainders,
            compensation=group["compensation"],
            backend=choose(weights, group),
            demanded=bool(group["fused"]),
            blocks=group["blocks"],
            rule=lambda t: self._rule(group, t),
            projection=Projection(lr=precise(group["lr"]), decay=self._decay(group), **settings),
            maximize=group["maximize"],
            capturable=group["capturable"],
        )

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        steps: list[Tensor],
        votes: list[Tensor],
        remainders: list[Tensor],
        *moments: list[Any],
    ) -> None:
        """Fill the lists from the parameters that have a gradient; make the state of those without one.

        The name is torch's: `torch.compile` runs a method of this name once instead of tracing it.
        """
        self._check(group)
        given = list(map(_grad, group["params"]))
        self._checked[id(group)].note_gradients(given)
        fill_columns(group, given, self.state, self._moments, (params, grads, steps, votes, remainders), moments)

    def _check(self, group: dict[str, Any]) -> None:
        """Check what has changed in a group since it was checked last."""
        kept = self._checked.get(id(group))
        if kept is not None and kept.group is group:
            kept.check(group, self.state, self._moments)
            return
        living = {*map(id, self.param_groups)}
        self._checked = {key: kept for key, kept in self._checked.items() if key in living}
        self._checked[id(group)] = CheckedGroup(group)
        check_state_shapes(group, self.state, self._moments)
