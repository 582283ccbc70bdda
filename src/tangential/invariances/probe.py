"""The probe: a float64 copy of the model at a generic point, run on the user's batch.

Every pass (`outputs`, `gradients`) starts from the same state: what a pass changes is put back after it (`state.py`),
all random sources are seeded, the batch is a fresh copy. So two passes differ only in what the analysis changed between
them, and equal outputs mean that the change did not matter. Gradients are read in hooks as they arrive and freed, one
at a time, so the peak memory is the copy (8 bytes per parameter), the activations of one pass and one gradient.

Parameters are the largest part of the state and hardly ever change in `forward`. They are not recorded: the version
counters of all, and checksums of their bits in the first passes, tell which ones a pass has changed (clipped weights, a
teacher that follows the model). Then `StateChanged` ends the analysis, which starts anew with a probe that holds copies
of these parameters during every pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from tangential.invariances.epsilons import TINY, Epsilons
from tangential.invariances.example_call import ExampleCall
from tangential.invariances.float64 import Float64Mode, storage_address
from tangential.invariances.generic import jitter, make_generic
from tangential.invariances.isolation.copying import float64_copy
from tangential.invariances.isolation.process import eagerly, seed_everything
from tangential.invariances.isolation.state import State

GradientReader = Callable[[str, Tensor, Tensor], None]
"""Takes a parameter's name, its weight and its gradient, which is freed afterwards."""

_CHECKED_PASSES = 2


class StateChanged(Exception):
    """A pass changed parameters that were not recorded.

    Attributes:
        names: Which.
    """

    def __init__(self, names: Collection[str]):
        super().__init__(", ".join(names))
        self.names = frozenset(names)


class Probe:
    """A float64 copy of `model` at a generic point, in training mode if the whole model was in evaluation mode.

    Args:
        model: The user's model.
        call: How it is run.
        seed: For the generic point.
        changing: Names of the parameters that a pass changes, to be put back after it.

    Attributes:
        model: The copy.
        parameters: Its parameters by the names the user's model has for them.
    """

    def __init__(self, model: nn.Module, call: ExampleCall, seed: int, changing: Collection[str] = ()):
        self.model = float64_copy(model)
        self.parameters = dict(self.model.named_parameters())
        self._users = {id(parameter) for parameter in model.parameters()}
        self._call = call
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._epsilons = Epsilons(self.model)
        self._epsilons.shrink()
        make_generic(self.model, self._generator)
        self._changing = {name: self.parameters[name] for name in changing}
        self._passes_to_check = _CHECKED_PASSES
        roots = (call.forward, call.args, call.kwargs)
        self._state = State([self.model], roots, except_for=self.parameters.values())

    def close(self) -> None:
        """Put everything back that the analysis shared with the user: caches, tables, random generators."""
        self._state.release()

    def jitter(self) -> None:
        """Move to another generic point."""
        jitter(self.model, self._generator)

    def outputs(self, seed: int, mode: Float64Mode | None = None) -> list[Tensor]:
        """The model's outputs with this seed, without their history: every tensor that a loss could be made of."""
        with eagerly(), mode or Float64Mode(), self._put_back():
            return [tensor.detach() for tensor in self._forward(seed)]

    def gradients(self, seed: int, read: GradientReader, eps: float | None = TINY) -> list[Tensor]:
        """Send a random cotangent back through the model, hand every gradient to `read` and free it.

        Returns:
            The outputs, as `outputs` gives them.
        """
        with eagerly(), Float64Mode(eps), self._reading(read), self._put_back():
            found = self._forward(seed)
            with _gradients_kept(self._foreign_leaves(found)):
                # Inside the mode, for activation checkpointing runs the model again here.
                torch.autograd.backward(found, _cotangents(found, seed))
            return [tensor.detach() for tensor in found]

    @property
    def follows_weights(self) -> bool:
        """Whether a pass changes parameters that are not trained, such as a teacher's."""
        return any(not parameter.requires_grad for parameter in self._changing.values())

    def held_state(self) -> set[int]:
        """Addresses of the floating point tensors that belong to the model's state and are not trained."""
        frozen = [parameter for parameter in self.parameters.values() if not parameter.requires_grad]
        state = [tensor for tensor in self._state.tensors if not tensor.requires_grad]
        return {storage_address(t) for t in (*frozen, *state) if t.is_floating_point() or t.is_complex()} - {0}

    @contextlib.contextmanager
    def own_epsilons(self) -> Iterator[None]:
        """Run with the epsilons that the user's model has in its modules."""
        self._epsilons.restore()
        try:
            yield
        finally:
            self._epsilons.shrink()

    @contextlib.contextmanager
    def rescaled(self, factors: Mapping[str, Tensor]) -> Iterator[None]:
        """Multiply weights by powers of two, which float64 undoes exactly."""
        with torch.no_grad():
            for name, factor in factors.items():
                self.parameters[name].mul_(factor)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, factor in factors.items():
                    self.parameters[name].div_(factor)

    def _forward(self, seed: int) -> list[Tensor]:
        seed_everything(seed)
        return self._call(self.model)

    @contextlib.contextmanager
    def _put_back(self) -> Iterator[None]:
        """Put back what a pass changes.

        Raises:
            StateChanged: It changed parameters that were not recorded.
        """
        kept = {name: parameter.detach().clone() for name, parameter in self._changing.items()}
        others = {name: parameter for name, parameter in self.parameters.items() if name not in kept}
        thorough, self._passes_to_check = self._passes_to_check > 0, self._passes_to_check - 1
        before = {name: _fingerprint(parameter, thorough) for name, parameter in others.items()}
        try:
            yield
        finally:
            self._state.restore()
            for name, value in kept.items():
                self.parameters[name].data.copy_(value)
        changed = [name for name, parameter in others.items() if _fingerprint(parameter, thorough) != before[name]]
        if changed:
            raise StateChanged(changed)

    @contextlib.contextmanager
    def _reading(self, read: GradientReader) -> Iterator[None]:
        def hook(name: str) -> Callable[[Tensor], None]:
            def take(parameter: Tensor) -> None:
                assert parameter.grad is not None  # the hook runs when the gradient is there
                read(name, parameter.detach(), parameter.grad.to_dense().resolve_conj().resolve_neg())
                parameter.grad = None

            return take

        trainable = {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}
        handles = [parameter.register_post_accumulate_grad_hook(hook(name)) for name, parameter in trainable.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _foreign_leaves(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Trainable tensors that are not the copy's: those of a loss with weights of its own."""
        ours = {id(parameter) for parameter in self.parameters.values()}
        foreign = [leaf for leaf in _leaves(outputs) if id(leaf) not in ours]
        if any(id(leaf) in self._users for leaf in foreign):
            raise ValueError("find_invariances: forward= used the user's own model; it must use the copy it is given")
        return foreign


def _fingerprint(parameter: Tensor, thorough: bool) -> tuple[int, int]:
    """Version counter and, if `thorough`, the sum of the bits, for writes to `.data` are not counted."""
    if not thorough or parameter.dtype not in (torch.float64, torch.complex128) or parameter.layout != torch.strided:
        return parameter._version, 0
    values = torch.view_as_real(parameter.detach()) if parameter.is_complex() else parameter.detach()
    return parameter._version, int(values.view(torch.int64).sum())


def _leaves(outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """The tensors that a backward pass from `outputs` would leave gradients on."""
    todo = [tensor.grad_fn for tensor in outputs]
    seen = set(todo)
    while todo:
        node = todo.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            yield leaf
        following = {after for after, _ in node.next_functions if after is not None} - seen if node else set()
        seen |= following
        todo.extend(following)


@contextlib.contextmanager
def _gradients_kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Give tensors that are not ours their gradients back."""
    kept = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None  # else the pass would add to it in place
    try:
        yield
    finally:
        for tensor, gradient in zip(tensors, kept, strict=True):
            tensor.grad = gradient


def _cotangents(outputs: Sequence[Tensor], seed: int) -> list[Tensor]:
    """A random direction for each output, scaled so that every output counts about the same."""
    generator = torch.Generator("cpu").manual_seed(77 + seed)
    drawn = (torch.randn(t.shape, generator=generator, dtype=t.dtype, device="cpu").to(t.device) for t in outputs)
    sizes = (t.detach().abs().mean().clamp_min(1e-30) * t.numel() ** 0.5 for t in outputs)
    return [direction / size for direction, size in zip(drawn, sizes, strict=True)]
