"""What SGDP and AdamP share as torch optimizers: parameter groups and state around the algorithm."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.algorithm import Projection, Rule
from tangential.backends import Batch, choose
from tangential.blocks import Blocks
from tangential.checks import check_gradient, check_group, check_parameter, check_state
from tangential.precision import wide


class Projected(Optimizer):
    """Everything but the rule that turns gradients into directions, which a leaf states."""

    _moments: ClassVar[tuple[str, ...]]
    _optional: ClassVar[dict[str, Any]] = dict(  # what checkpoints of other versions and packages may lack
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
                check_parameter(p, group["blocks"])
        except ValueError:
            self.param_groups.pop()
            raise

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
            for name in self._moments if i in seen[0]["state"] else ():
                self.state[p][name] = seen[0]["state"][i][name].to(device=p.device, dtype=wide(p.dtype))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: A sparse gradient; no weight has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:  # all of them before the first is moved
            for p in group["params"]:
                check_gradient(p)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            for backend, batch in [pair for group in self.param_groups for pair in self._batches(group)]:
                backend(batch)
        return loss

    def _batches(self, group: dict[str, Any]) -> list[tuple[Callable[[Batch], None], Batch]]:
        """The group's parameters that have gradients, by what can take a step together."""
        params: list[Tensor] = []
        grads: list[Tensor] = []
        steps: list[Tensor] = []
        moments: list[list[Tensor]] = [[] for _ in self._moments]
        self._init_group(group, params, grads, steps, *moments)
        if not params:
            return []
        torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
        backend = choose(params, wanted=group["foreach"], differentiable=group["differentiable"])
        together: dict[Any, list[int]] = {}
        counts = _counts(steps, group["capturable"])
        for i, (p, t) in enumerate(zip(params, counts, strict=True)):
            if p.numel():
                key = (p.device, p.dtype, t if isinstance(t, float) else None, _projected(p, group["blocks"]))
                together.setdefault(key, []).append(i)
        lr = group["lr"].double() if isinstance(group["lr"], Tensor) else group["lr"]
        settings = {name: group[name] for name in ("delta", "eps", "wd_ratio")}
        projection = Projection(lr=lr, decay=self._decay(group), **settings)
        return [
            (
                backend,
                Batch(
                    weights=[_real(params[i]) for i in at],
                    grads=[_real(-grads[i] if group["maximize"] else grads[i]) for i in at],
                    moments=tuple([_real(moment[i]) for i in at] for moment in moments),
                    t=[counts[i] for i in at] if key[2] is None else key[2],
                    blocks=group["blocks"] if key[3] else None,
                    rule=lambda t: self._rule(group, t),
                    projection=projection,
                ),
            )
            for key, at in together.items()
        ]

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        steps: list[Tensor],
        *moments: list[Tensor],
    ) -> None:
        """Fill the lists with what has a gradient, and make the state of what steps for the first time.

        The name is torch's: `torch.compile` runs a method so called once instead of tracing it.
        """
        ready = [p for p in group["params"] if p.grad is not None]
        for p in ready:
            own = self.state[p]
            if not own:
                device = p.device if group["capturable"] else "cpu"
                own["step"] = torch.zeros((), dtype=torch.float32, device=device)
                for name in self._moments:
                    own[name] = torch.zeros_like(p, dtype=wide(p.dtype), memory_format=torch.preserve_format)
            params.append(p)
            grads.append(p.grad)
            steps.append(own["step"])
            for name, moment in zip(self._moments, moments, strict=True):
                moment.append(own[name])


def _counts(steps: list[Tensor], capturable: bool) -> list[Any]:
    """Step counts as numbers; as float64 tensors where they live on the device, or a compiler must see no constants."""
    if capturable or torch.compiler.is_compiling():
        return [step.double() for step in steps]
    return torch.stack(steps).tolist()


def _projected(p: Tensor, blocks: Blocks | str | None) -> bool:
    """Whether the gate sees this parameter; the paper's test never does one of 0 or 1 dimensions."""
    return isinstance(blocks, Blocks) or (blocks is not None and p.ndim > 1)


def _real(x: Tensor) -> Tensor:
    """A complex tensor as its real pairs, in a last dimension of their own, so that its rows stay its rows."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
