"""Base class of SGDP and AdamP: parameter groups, state, state dicts and the order of events in a step.

A group's dict comes in with its settings and parameters, `add_param_group` checks both. `step` makes one `GroupStep` of
each group (weights, gradients, moments, step counts as parallel lists), checks all gradients before the first weight is
moved, and hands the group steps to the backends; the arithmetic is in `tangential.algorithm`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.algorithm import Projection, Rule
from tangential.backends import DECISION, VOTES, CudaKernel, Fused, GroupStep, choose, in_use, unscaled, walk
from tangential.backends.opmath import opmath_dtype
from tangential.optimizers.validation import check_capture, check_gradients, check_group, check_parameter, check_state


class Projected(Optimizer):
    """A torch optimizer whose steps are projected; a subclass adds its rule (`Sgd`, `Adam`) and its weight decay."""

    _moments: ClassVar[tuple[str, ...]]
    _kernel: Fused | None = None
    _cuda_kernel: CudaKernel | None = None
    _optional: ClassVar[dict[str, Any]] = dict(  # settings that checkpoints of other versions and packages may lack
        nesterov=False,
        delta=0.1,
        wd_ratio=0.1,
        blocks="cosine",
        maximize=False,
        foreach=None,
        fused=None,
        capturable=False,
        differentiable=False,
    )

    def _rule(self, group: dict[str, Any], t: Any) -> Rule:
        raise NotImplementedError

    def _decay(self, group: dict[str, Any]) -> float:
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked as the constructor's arguments are. See `torch.optim.Optimizer`."""
        check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for p in group["params"]:
                check_parameter(p, group)
        except ValueError:
            self.param_groups.pop()
            raise

    @property
    def backend(self) -> str:
        """Backends in use: "fused", "foreach" or "eager", or several of them joined by a plus.

        Parameters that the kernel cannot step (other dtypes and devices, layouts with gaps) are left to foreach.
        """
        return in_use(self.param_groups)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `torch.amp.GradScaler` leaves unscaling to `step`: the CUDA kernel does it without a read-back."""
        here = all(p.is_cuda for group in self.param_groups for p in group["params"])
        return here and all(choose(group["params"], group) == "fused" for group in self.param_groups)

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_state(state["state"].values(), (*self._moments, "step"), type(self).__name__)
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self._optional.items():
                group.setdefault(name, value)
        for own in self.state.values():
            if not isinstance(own["step"], Tensor):
                own["step"] = torch.tensor(float(own["step"]), dtype=torch.float32)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state bit for bit. See `torch.optim.Optimizer.load_state_dict`.

        Raises:
            ValueError: The state is another optimizer's; nothing is loaded then.
        """
        # torch casts moments to the dtype of the weight, which would round the float32 moments of half precision
        seen: list[dict[str, Any]] = []
        last_hook = self.register_load_state_dict_pre_hook(lambda _, loaded: seen.append(loaded))
        try:
            super().load_state_dict(state_dict)
        finally:
            last_hook.remove()
        ids = chain.from_iterable(group["params"] for group in seen[0]["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for i, p in zip(ids, params, strict=True):
            own = seen[0]["state"].get(i, {})
            for name in self._moments if own else ():
                self.state[p][name] = own[name].to(device=p.device, dtype=opmath_dtype(p.dtype))
            for name in (DECISION, VOTES):
                if name in own:
                    self.state[p][name] = own[name].to(device=p.device)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: A CUDA graph captures the step of groups that are not `capturable`, or their first step.
            ValueError: A sparse gradient; no weight has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not torch.compiler.is_compiling():
            check_capture(self.param_groups)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            group_steps = self.group_steps()
            for lot in group_steps:  # all of them before the first is moved
                check_gradients(lot.weights, lot.grads)
            for lot in group_steps if torch.compiler.is_compiling() else self._fused_step(group_steps):
                walk(lot)
        return loss

    def _fused_step(self, group_steps: list[GroupStep]) -> list[GroupStep]:
        """Step what the kernel takes; the rest is returned."""
        scale, found = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        others = unscaled([lot for lot in group_steps if lot.backend != "fused"], scale, found)
        if any(lot.backend == "fused" for lot in group_steps):
            self._kernel, self._cuda_kernel = self._kernel or Fused(), self._cuda_kernel or CudaKernel()
            rest = self._cuda_kernel.step(
                [lot for lot in group_steps if lot.backend == "fused"], self.state, scale, found
            )
            others += self._kernel.step(unscaled(rest, scale, found), self.state)
        for lot in others:
            for p, said in zip(lot.weights, lot.said, strict=True):
                if said is not None:  # nobody would keep it up to date
                    del self.state[p][DECISION]
        return others

    def group_steps(self) -> list[GroupStep]:
        """What the next step would walk, one lot per parameter group; telemetry reads it before the step."""
        return [self._lot(group) for group in self.param_groups]

    def _lot(self, group: dict[str, Any]) -> GroupStep:
        weights: list[Tensor] = []
        grads: list[Tensor] = []
        steps: list[Tensor] = []
        moments: list[list[Tensor]] = [[] for _ in self._moments]
        votes: list[Tensor] = []
        said: list[Tensor | None] = []
        traced = torch.compiler.is_compiling()  # the compiler knows lists of tensors only
        self._init_group(group, weights, grads, steps, votes, *moments, *([] if traced else [said]))
        lr = group["lr"].double() if isinstance(group["lr"], Tensor) else group["lr"]
        settings = {name: group[name] for name in ("delta", "eps", "wd_ratio")}
        return GroupStep(
            weights=weights,
            grads=grads,
            moments=tuple(moments),
            steps=steps,
            votes=votes,
            said=[None] * len(weights) if traced else said,
            backend=choose(weights, group),
            demanded=bool(group["fused"]),
            blocks=group["blocks"],
            rule=lambda t: self._rule(group, t),
            projection=Projection(lr=lr, decay=self._decay(group), **settings),
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
        *moments: list[Any],
    ) -> None:
        """Fill the lists from the parameters that have a gradient; make the state of those without one.

        The name is torch's: `torch.compile` runs a method of this name once instead of tracing it.
        """
        given = [p.grad for p in group["params"]]
        params += [p for p, grad in zip(group["params"], given, strict=True) if grad is not None]
        grads += [grad for grad in given if grad is not None]
        owns = [self.state[p] for p in params]
        if not all(owns) or group["blocks"] == "sticky":
            for p, own in zip(params, owns, strict=True):
                self._make_state(p, own, group)
        if group["blocks"] == "sticky":
            votes += [own[VOTES] for own in owns]
        steps += [own["step"] for own in owns]
        for name, column in zip((*self._moments, DECISION), moments, strict=False):
            column += [own.get(name) for own in owns]

    def _make_state(self, p: Tensor, own: dict[str, Any], group: dict[str, Any]) -> None:
        """Add the state entries that a parameter lacks."""
        if not own:
            device = p.device if group["capturable"] else "cpu"
            own["step"] = torch.zeros((), dtype=torch.float32, device=device)
            for name in self._moments:
                own[name] = torch.zeros_like(p, dtype=opmath_dtype(p.dtype), memory_format=torch.preserve_format)
        if group["blocks"] == "sticky" and VOTES not in own:
            own[VOTES] = torch.zeros(2, dtype=torch.int32, device=p.device)
