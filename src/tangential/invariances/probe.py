"""The probe: a float64 copy of the model at a generic point, run on the user's batch.

Every pass (`outputs`, `gradients`) starts from the same state: running statistics and power iterations are put back,
all random sources are seeded, the batch is a fresh copy. So two passes differ only in what the analysis changed
between them, and equal outputs mean that the change did not matter. Gradients are read in hooks as they arrive and
freed, one at a time, so the peak memory is the copy (8 bytes per parameter), the activations of one pass and one
gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from tangential.invariances.copying import float64_copy
from tangential.invariances.example_call import ExampleCall
from tangential.invariances.float64 import Epsilons, Float64Mode
from tangential.invariances.generic import jitter, make_generic
from tangential.invariances.isolation import eagerly, seed_everything

GradientReader = Callable[[str, Tensor, Tensor], None]
"""Takes a parameter's name, its weight and its gradient, which is freed afterwards."""


class Probe:
    """A float64 copy of `model` at a generic point, in training mode if the whole model was in evaluation mode.

    Attributes:
        model: The copy.
        parameters: Its parameters by the names the user's model has for them.
    """

    def __init__(self, model: nn.Module, call: ExampleCall, seed: int):
        self.model = float64_copy(model)
        self.parameters = dict(self.model.named_parameters())
        self._users = {id(parameter) for parameter in model.parameters()}
        self._call = call
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._epsilons = Epsilons(self.model)
        self._epsilons.shrink()
        make_generic(self.model, self._generator)
        self._buffers = {name: buffer.detach().clone() for name, buffer in self.model.named_buffers()}

    def jitter(self) -> None:
        """Move to another generic point."""
        jitter(self.model, self._generator)

    def outputs(self, seed: int, mode: Float64Mode | None = None) -> list[Tensor]:
        """What the model returns with this seed, without its history: every tensor that a loss could be made of."""
        with eagerly(), mode or Float64Mode():
            return [tensor.detach() for tensor in self._forward(seed)]

    def gradients(self, seed: int, read: GradientReader, keep_eps: bool = False) -> list[Tensor]:
        """Send a random cotangent back through the model, hand every gradient to `read` and free it.

        Returns:
            The outputs, as `outputs` gives them.
        """
        with eagerly(), Float64Mode(keep_eps), self._reading(read):
            found = self._forward(seed)
            with _gradients_kept(self._foreign_leaves(found)):
                # Inside the mode, for activation checkpointing runs the model again here.
                torch.autograd.backward(found, _cotangents(found, seed))
        return [tensor.detach() for tensor in found]

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
        self._rewind()
        seed_everything(seed)
        return self._call(self.model)

    @torch.no_grad()
    def _rewind(self) -> None:
        """Give running statistics, power iterations and counters the values they had."""
        buffers = dict(self.model.named_buffers())
        for name, value in self._buffers.items():
            if name in buffers and buffers[name].shape == value.shape:
                buffers[name].copy_(value)
            else:
                owner, _, attribute = name.rpartition(".")
                setattr(self.model.get_submodule(owner), attribute, value.clone())

    @contextlib.contextmanager
    def _reading(self, read: GradientReader) -> Iterator[None]:
        def hook(name: str) -> Callable[[Tensor], None]:
            def take(parameter: Tensor) -> None:
                assert parameter.grad is not None  # the hook runs when the gradient is there
                read(name, parameter.detach(), parameter.grad.to_dense())
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
