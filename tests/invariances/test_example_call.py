"""How a model is called, and which calls and models are refused."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import types
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, nn

from support.edge_nets import Wrapped, pictures, small
from tangential import Blocks
from tangential.invariances import find_invariances

# How a model is called.


class Outputs(OrderedDict):
    """Like those of Transformers: a mapping whose entries are attributes too."""


def test_batches_may_be_keywords_and_nested():
    def run(net, x, mask):
        return {"logits": [net(x["pictures"][0]) * mask]}

    class Nested(Wrapped):
        def forward(self, x, *, mask):
            return self.run(self.net, x, mask)

    found = find_invariances(Nested(run), {"pictures": (pictures(),)}, mask=torch.tensor(2))
    assert found["net.0.weight"] == Blocks()


class Pair(NamedTuple):
    x: torch.Tensor
    scale: float


@dataclass
class Scores:
    logits: torch.Tensor


def test_batches_may_be_named_tuples_and_outputs_objects():
    model = Wrapped(lambda net, pair: Scores(net(pair.x) * pair.scale))
    assert find_invariances(model, Pair(pictures(), 2.0))["net.0.weight"] == Blocks()


def test_a_loss_in_the_outputs_stands_for_all_of_them():
    def run(net, x):
        raw = net[0](x)
        loss = net[1:](raw).square().mean()
        return Outputs(loss=loss, hidden=raw)

    assert find_invariances(Wrapped(run), pictures())["net.0.weight"] == Blocks()
    without = Wrapped(lambda net, x: {"hidden": run(net, x)["hidden"]})
    assert find_invariances(without, pictures())["net.0.weight"] is None


@pytest.mark.parametrize(
    "name",
    ["past_key_values", "cache", "cache_params", "mems", "encoder_cache", "past_buckets_states", "shared_kv_states"],
)
def test_caches_for_the_next_call_do_not_count(name):
    def run(net, x):
        raw = net[0](x)
        return Outputs(logits=net[1:](raw), **{name: [raw]})

    assert find_invariances(Wrapped(run), pictures())["net.0.weight"] == Blocks()


class KeyValueCache:
    """A cache by its class alone, as in a tuple of outputs."""

    def __init__(self, keys):
        self.keys = keys


class SlidingCache(KeyValueCache):
    """One of its kinds."""


class LayerTwo(SlidingCache):
    """One by inheritance."""


@pytest.mark.parametrize("kind", [KeyValueCache, SlidingCache, LayerTwo])
@pytest.mark.parametrize("pack", [lambda *outputs: outputs, lambda logits, last: {"logits": logits, "next": [last]}])
def test_caches_are_known_by_their_class_wherever_they_stand(kind, pack):
    def run(net, x):
        raw = net[0](x)
        return pack(net[1:](raw), kind(raw))

    assert find_invariances(Wrapped(run), pictures())["net.0.weight"] == Blocks()


@pytest.mark.parametrize("name", ["hidden", "last_hidden_state", "state", "pasture", 0])
def test_outputs_that_only_resemble_a_cache_count(name):
    def run(net, x):
        raw = net[0](x)
        return {"logits": net[1:](raw), name: raw}

    assert find_invariances(Wrapped(run), pictures())["net.0.weight"] is None


def test_forward_may_return_the_loss_of_a_captured_float32_pictures():
    inputs, targets = pictures(), torch.randn(4, 5, 6, 6)
    found = find_invariances(small(), forward=lambda model: F.mse_loss(model(inputs), targets))
    assert found["0.weight"] == Blocks()
    penalised = find_invariances(small(), inputs, forward=lambda m, x: m(x).sum() + m[0].weight.square().sum())
    assert penalised["0.weight"] is None


def test_an_argument_of_the_model_may_be_named_like_an_option():
    class Sampler(Wrapped):
        def forward(self, x, samples):
            return self.net(x) * samples

    with pytest.raises(ValueError, match="forward=lambda"):
        find_invariances(Sampler(None), pictures(), samples=torch.ones(()))
    found = find_invariances(Sampler(None), forward=lambda m: m(torch.ones(4, 3, 10, 10), samples=torch.ones(())))
    assert len(found) == 6


def test_the_model_may_change_its_batch_in_place():
    x = pictures()
    before = x.clone()
    assert find_invariances(Wrapped(lambda net, x: net(x.mul_(0.5).add_(1.0))), x)["net.0.weight"] == Blocks()
    assert torch.equal(x, before)


def test_a_gradient_penalty_differentiates_twice():
    def loss(model, x):
        x.requires_grad_()
        score = model(x).sum()
        (slope,) = torch.autograd.grad(score, x, create_graph=True)
        return score + (slope.norm() - 1) ** 2

    assert find_invariances(small(), pictures(), forward=loss)["0.weight"] == Blocks()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_the_callers_context_does_not_matter(context):
    with context():
        found = find_invariances(small(), pictures())
    assert found["0.weight"] == Blocks()


def test_the_default_device_does_not_matter():
    model, x = small(), pictures()
    with torch.device("meta"):
        found = find_invariances(model, x)
    assert found["0.weight"] == Blocks()


def test_parameters_without_elements_are_unused():
    model = small()
    model.empty = nn.Parameter(torch.zeros(0, 3))
    found = find_invariances(model, pictures(), forward=lambda m, x: m[:4](x).sum() + m.empty.sum())
    assert found.verdict("empty").kind == "unused"


# What cannot be analysed.


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.ReLU(), "no parameters"),
        (lambda: small().requires_grad_(False), "only frozen"),
        (lambda: nn.LazyLinear(3), "not initialised"),
        (lambda: nn.Linear(3, 3, device="meta"), "meta device"),
    ],
)
def test_models_without_weights_to_look_at_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        find_invariances(model(), pictures())


def test_only_modules_are_taken():
    with pytest.raises(TypeError, match="function"):
        find_invariances(lambda x: x, pictures())
    with pytest.raises(TypeError, match="callable"):
        find_invariances(small(), pictures(), forward=3)


def test_a_batch_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"forward\(model, \[Linear, ...\], mode='x'\) failed"):
        find_invariances(small(), [nn.Linear(1, 1), 2], forward=lambda m, x, mode: m(x), mode="x")
    with pytest.raises(ValueError, match=r"model\(float32\[4, 4, 8, 8\]\) failed .*expected input"):
        find_invariances(small(), torch.randn(4, 4, 8, 8))


def test_outputs_without_gradient_are_refused():
    with pytest.raises(ValueError, match="has a gradient"):
        find_invariances(small(), pictures(), forward=lambda model, x: model(x).detach())


def test_outputs_that_differ_each_time_are_refused():
    drawn = random.Random(0)
    with pytest.raises(ValueError, match="something else each time"):
        find_invariances(small(), pictures(), forward=lambda model, x: model(x) * drawn.random())


def test_forward_must_use_the_model_it_is_given():
    model = small()
    with pytest.raises(ValueError, match="must use the copy"):
        find_invariances(model, pictures(), forward=lambda _, x: model(x))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_cannot_be_copied_is_refused():
    model = small()
    model.lock = threading.Lock()
    with pytest.raises(ValueError, match="cannot be copied"):
        find_invariances(model, pictures())


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_running_out_of_memory_says_what_to_try(error):
    def forward(model, x):
        raise error("no room")

    with pytest.raises(error, match=r"no room; .*smaller batch"):
        find_invariances(small(), pictures(), forward=forward)


def test_torchs_own_lack_of_memory_is_one_too():
    def forward(model, x):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with pytest.raises(MemoryError, match="smaller batch"):
        find_invariances(small(), pictures(), forward=forward)


def test_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(small())
    with pytest.raises(ValueError, match="before scripting"):
        find_invariances(scripted, pictures())


class FullyShardedDataParallel(nn.Module):
    """What FSDP's first form looks like from outside."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Parameter(torch.ones(3))


def test_flattened_weights_are_refused():
    with pytest.raises(ValueError, match=r"module '0' is sharded"):
        find_invariances(nn.Sequential(FullyShardedDataParallel()), pictures())


def test_an_error_of_the_backward_pass_is_passed_on():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        find_invariances(small(), pictures(), forward=lambda m, x: Broken.apply(m(x)))


def test_sharded_weights_are_refused():
    from torch.distributed.tensor import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = parallelize_module(nn.Linear(4, 4), init_device_mesh("cpu", (1,)), ColwiseParallel())
        with pytest.raises(ValueError, match="sharded"):
            find_invariances(model, torch.randn(2, 4))
        wrapped = nn.parallel.DistributedDataParallel(small())
        assert find_invariances(wrapped, pictures())["module.0.weight"] == Blocks()
    finally:
        distributed.destroy_process_group()


def test_compiled_models_run_as_they_were_written():
    model = Wrapped(lambda net, x: net(x))
    model.net = torch.compile(model.net, backend=refuse)
    found = find_invariances(torch.compile(model, backend=refuse), pictures())
    assert found["_orig_mod.net.0.weight"] == Blocks()


def refuse(*_):
    raise AssertionError("compiled")


def test_analysis_needs_torch_alone():
    code = "import sys; import tangential.invariances; print('rich' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_keras_layers_are_called_in_the_mode_of_the_analysis(monkeypatch):
    """Without the argument they run for inference outside of Keras's own `fit`, and no normalisation is left."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

        def forward(self, x, training=False):
            self.norm.train(training)
            return self.norm(self.conv(x))

    x = torch.randn(4, 3, 8, 8)
    assert find_invariances(Layer(), x)["conv.weight"] is None
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(Layer=Layer))
    assert find_invariances(Layer(), x)["conv.weight"] == Blocks()
    assert find_invariances(Layer(), x, training=False)["conv.weight"] is None
