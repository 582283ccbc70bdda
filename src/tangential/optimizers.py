"""SGDP and AdamP as torch optimizers: parameter groups and state around the algorithm, nothing of it restated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.algorithm import Adam, Projection, Rule, Sgd
from tangential.backends import Batch, choose
from tangential.blocks import Blocks
from tangential.checks import check_gradient, check_group, check_parameter, check_state
from tangential.precision import wide

Params = Iterable[Any]


class _Projected(Optimizer):
    """What SGDP and AdamP share: everything but the rule that turns gradients into directions."""

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


class SGDP(_Projected):
    """SGD with momentum that takes the radial part out of its steps (arXiv 2006.08217, Algorithm 1).

    A weight followed by a normalisation is scale-invariant: its gradient has no radial part, yet with momentum its
    steps do, and that part only makes the weight longer and every later step smaller. SGDP projects it out.

    The first nine arguments are, in order and defaults, those of the authors' package `adamp`, so that swapping the
    import is enough. The momentum buffer is never projected, as in the paper; the authors' code projects it by accident
    when `nesterov` is off.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate; a float, or a 0-d tensor.
        momentum: In [0, 1).
        dampening: Acts from the first step on, unlike in `torch.optim.SGD`.
        weight_decay: Decoupled decay: each step shrinks a weight by `lr * weight_decay / (1 - momentum)`.
        nesterov: Use Nesterov momentum.
        eps: Smallest norm that is divided by.
        delta: The cosine test fires below `delta / sqrt(elements of a channel, or of the weight)`.
        wd_ratio: Decay of projected weights relative to that of the others, in [0, 1].
        blocks: "cosine" asks the paper's test at every step; a `Blocks` says which parts are invariant; None projects
            nothing. Usually set per parameter group.
        maximize: Ascend instead of descend.
        foreach: True steps many tensors at once, False one at a time, None chooses.
        fused: True is refused: no kernel is built yet.
        capturable: Keep step counts on the device of the weights, for CUDA graphs.
        differentiable: Let autograd see through the step; needs the one-at-a-time backend.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of range, or a parameter that cannot be stepped.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> optimizer = SGDP(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        >>> model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        >>> optimizer.step()
    """

    _moments = Sgd.names

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        *,
        blocks: Blocks | str | None = "cosine",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {k: v for k, v in locals().items() if k not in ("self", "params", "__class__")}
        super().__init__(params, defaults)

    def _rule(self, group: dict[str, Any], t: Any) -> Sgd:
        return Sgd(momentum=group["momentum"], dampening=group["dampening"], nesterov=group["nesterov"])

    def _decay(self, group: dict[str, Any]) -> float:
        # what coupled L2 decay would add up to over the memory of the momentum
        return group["weight_decay"] / (1 - group["momentum"])


class AdamP(_Projected):
    """AdamW that takes the radial part out of its steps (arXiv 2006.08217, Algorithm 2).

    A weight followed by a normalisation is scale-invariant: only its direction matters, and a step along the weight
    only makes it longer and every later step smaller. AdamP projects that part out, and is AdamW everywhere else.

    The first eight arguments are, in order and defaults, those of the authors' package `adamp`, so that swapping the
    import is enough.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate; a float, or a 0-d tensor.
        betas: Decay rates of the two moments, each in [0, 1).
        eps: Added to the root of the second moment, and the smallest norm that is divided by.
        weight_decay: Decoupled decay: each step shrinks a weight by `lr * weight_decay`.
        delta: The cosine test fires below `delta / sqrt(elements of a channel, or of the weight)`.
        wd_ratio: Decay of projected weights relative to that of the others, in [0, 1].
        nesterov: Use Nesterov momentum.
        blocks: "cosine" asks the paper's test at every step; a `Blocks` says which parts are invariant; None projects
            nothing. Usually set per parameter group.
        maximize: Ascend instead of descend.
        foreach: True steps many tensors at once, False one at a time, None chooses.
        fused: True is refused: no kernel is built yet.
        capturable: Keep step counts on the device of the weights, for CUDA graphs.
        differentiable: Let autograd see through the step; needs the one-at-a-time backend.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of range, or a parameter that cannot be stepped.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> optimizer = AdamP(model.parameters(), lr=1e-3, weight_decay=1e-2)
        >>> model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        >>> optimizer.step()
    """

    _moments = Adam.names

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        *,
        blocks: Blocks | str | None = "cosine",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {k: v for k, v in locals().items() if k not in ("self", "params", "__class__")}
        super().__init__(params, defaults)

    def _rule(self, group: dict[str, Any], t: Any) -> Adam:
        return Adam(t=t, betas=group["betas"], eps=group["eps"], nesterov=group["nesterov"])

    def _decay(self, group: dict[str, Any]) -> float:
        return group["weight_decay"]
