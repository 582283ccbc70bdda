"""One step: scaled losses are clipped as others are, and what is not finite is named as what it is."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch import nn

from support.noisy_task import Noisy, plan
from tangential import SGDP, AdamP
from tangential.experiments.training.loop import Training
from tangential.experiments.training.plan import TrainingOptions


class Plain(Noisy):
    def model(self):
        return nn.Linear(3, 1)


class Fused(torch.optim.SGD):
    """An optimizer that divides by the scale of the loss in its own step, as fused ones on a GPU do."""

    _step_supports_amp_scaling = True

    def step(self, closure=None):
        scale, found_inf = (self.__dict__.pop(name, None) for name in ("grad_scale", "found_inf"))
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = p.grad if scale is None else p.grad / scale
        if found_inf is None or not found_inf.item():
            super().step(closure)
        self.grad_scale, self.found_inf = scale, found_inf  # the scaler takes them away again


def scaled_fabric():
    """16-mixed with a scaled loss on a CPU, which the command leaves to GPUs."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])


@pytest.mark.parametrize("make", [torch.optim.SGD, Fused, partial(SGDP, momentum=0.9), AdamP])
@pytest.mark.parametrize("limits", [{"clip_norm": 1e-2}, {"clip_value": 1e-2}, {"clip_norm": 1e-2, "clip_value": 5e-3}])
def test_scaled_loss_is_clipped_as_a_plain_one(make, limits):
    weights = []
    for precision, fabric in (("bf16-mixed", None), ("16-mixed", scaled_fabric())):
        options = TrainingOptions(precision=precision, **limits)
        training = Training(replace(plan, task=Plain(), optimizer=partial(make, lr=0.1), options=options), fabric)
        sizes = []
        training.optimizers[""].register_step_pre_hook(
            lambda *_, t=training, s=sizes: s.append(torch.cat([p.grad.flatten() for p in t.model.parameters()]))
        )
        training.run_epoch()
        for grads in sizes:
            assert float(grads.norm()) <= limits.get("clip_norm", 1) * 1.001
            assert float(grads.abs().max()) <= limits.get("clip_value", 1) * 1.001
        weights.append(torch.cat([p.detach().flatten() for p in training.model.parameters()]))
    assert torch.allclose(*weights, atol=2e-2), "the two differ by their half precision alone"


@dataclass(frozen=True)
class Spoiled(Plain):
    """Its loss or its gradients stop being finite in the second step."""

    what: str = "gradients"

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        calls = model.__dict__.setdefault("calls", [])
        calls.append(1)
        if model.training and len(calls) == 2:
            if self.what == "loss":
                return loss * float("inf")
            model.bias.register_hook(lambda grad: grad * float("nan"))
        return loss


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("loss", r"^train_loss became inf, the first gradients that are not finite: weight, bias in step 2 "),
        ("gradients", r"^train_loss is finite \([\d.]+\), .* the first gradients that are not finite: bias in step 2 "),
    ],
)
def test_what_is_not_finite_is_named_as_what_it_is(what, message):
    training = Training(replace(plan, task=Spoiled(what=what)))
    with pytest.raises(FloatingPointError, match=message) as caught:
        training.run_epoch()
    assert "became" not in str(caught.value) or what == "loss"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_score_that_is_not_finite_stops_the_run(value):
    class Scored(Plain):
        def score(self, model, batches):
            return {"accuracy": value}

    with pytest.raises(FloatingPointError, match=r"test_accuracy became .* in epoch 1; try a smaller learning rate"):
        Training(replace(plan, task=Scored())).run_epoch()
