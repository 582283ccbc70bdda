"""A net trained under every way of sharding that torch has, beside the same net in one process, or saved and loaded."""

from contextlib import nullcontext
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from tangential import SGDP, AdamP, Blocks, find_invariances

OPTIMIZERS = {
    "adamp": (AdamP, dict(lr=1e-2, weight_decay=0.1)),
    "sgdp": (SGDP, dict(lr=1e-2, weight_decay=0.1, momentum=0.9, nesterov=True)),
}


class Net(nn.Module):
    """Two matrices before a LayerNorm, so that the second has invariant blocks; a matrix of one row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(12, 14, bias=False)
        self.down = nn.Linear(14, 7, bias=False)
        self.norm = nn.LayerNorm(7)
        self.tiny = nn.Linear(7, 1, bias=False)
        self.head = nn.Linear(7, 3)

    def forward(self, x):
        h = self.norm(self.down(torch.tanh(self.up(x))))
        return torch.cat([self.head(h), self.tiny(h)], 1)


def batch(step, dtype):
    generator = torch.Generator().manual_seed(50 + step)
    shapes = ((12, 12), (12, 4))  # as many as 2, 3 and 4 ranks can share
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def loss(model, x, y):
    return (model(x).to(y.dtype) - y).square().mean()


def blocks_of(kind, net):
    """Blocks by name of parameter."""
    names = dict(net.named_parameters())
    if kind == "detector":
        return dict(find_invariances(net, batch(0, names["up.weight"].dtype)[0]).items())
    static = {"channel": Blocks(), "layer": Blocks(size=None), "heads": Blocks(size=7), "none": None}
    if kind == "cosine":
        return dict.fromkeys(names, kind)
    rows = {name: p.shape[0] if p.ndim > 1 else 0 for name, p in names.items()}
    least = 7 if kind == "heads" else 2
    return {name: static[kind] if rows[name] >= least else None for name in names}


def groups(kind, net, model):
    """Groups of the wrapped model's parameters, with the blocks that were found before it was wrapped."""
    found = blocks_of(kind, net)
    together = {}
    for name, p in model.named_parameters():
        together.setdefault(found[name.removeprefix("module.")], []).append(p)
    return [dict(params=params, blocks=blocks) for blocks, params in together.items()]


@lru_cache
def _mesh(*names):
    """A mesh over all ranks; kept, since each makes process groups."""
    size = dist.get_world_size()
    return init_device_mesh("cpu", (size,) if len(names) == 1 else (2, size // 2), mesh_dim_names=names)


def _fsdp2(model, mesh, **settings):
    for layer in (model.up, model.down, model.head):
        fully_shard(layer, mesh=mesh, **settings)
    return fully_shard(model, mesh=mesh, **settings)


def _tensor_parallel(model, mesh):
    return parallelize_module(model, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})


def wrapped(way, model):
    """The sharded or replicated model, and `(ranks that share a batch, own place among them)`."""
    size, rank = dist.get_world_size(), dist.get_rank()
    if way in ("ddp", "zero"):
        return DistributedDataParallel(model), size, rank
    if way == "tp":
        return _tensor_parallel(model, _mesh("tp")), 1, 0
    if way == "hsdp":
        return _fsdp2(model, _mesh("replica", "shard")), size, rank
    if way == "fsdp2 x tp":
        mesh = _mesh("dp", "tp")
        return _fsdp2(_tensor_parallel(model, mesh["tp"]), mesh["dp"]), 2, mesh["dp"].get_local_rank()
    settings = {
        "fsdp2 columns": dict(
            shard_placement_fn=lambda p: Shard(1) if p.ndim > 1 and p.shape[1] % size == 0 else Shard(0)
        ),
        "fsdp2 offload": dict(offload_policy=CPUOffloadPolicy(pin_memory=False)),
        "fsdp2 mixed": dict(mp_policy=MixedPrecisionPolicy(param_dtype=torch.float64, reduce_dtype=torch.float64)),
    }
    return _fsdp2(model, _mesh("dp"), **settings.get(way, {})), size, rank


def backward(model, step, dtype, ranks, place):
    x, y = batch(step, dtype)
    count = len(x) // ranks
    here = slice(place * count, (place + 1) * count)
    loss(model, x[here], y[here]).backward()


def whole(p):
    """A parameter or moment as every rank would hold it."""
    return p.full_tensor() if isinstance(p, DTensor) else p


def beside_one_process(way, name, kind, dtype=torch.float64, steps=10, **settings):
    """Largest difference of any weight from one process, and the messages of the last step."""
    cls, own = OPTIMIZERS[name]
    alone, net = Net().to(dtype), Net().to(dtype)
    before = Net().to(dtype)
    optimizer_alone = cls(groups(kind, before, alone), **own, foreach=False)
    model, ranks, place = wrapped(way, net)
    if way == "zero":
        optimizer = ZeroRedundancyOptimizer(groups(kind, before, model), cls, **own, **settings)
    else:
        optimizer = cls(groups(kind, before, model), **own, **settings)
    for step in range(steps):
        backward(alone, step, dtype, 1, 0)
        backward(model, step, dtype, ranks, place)
        optimizer_alone.step()
        with CommDebugMode() if step + 1 == steps else nullcontext() as messages:
            optimizer.step()
        optimizer_alone.zero_grad()
        optimizer.zero_grad()
    pairs = zip(alone.parameters(), model.parameters(), strict=True)
    gap = max(float((p - whole(q)).abs().max() / p.abs().max()) for p, q in pairs)
    return gap, sum(messages.get_comm_counts().values())


def exchanged(name):
    """As Accelerate prepares FSDP2: the optimizer is made first, and its groups then get the sharded parameters."""
    cls, own = OPTIMIZERS[name]
    alone, net = Net().double(), Net().double()
    optimizers = [cls(groups("detector", Net().double(), each), **own) for each in (alone, net)]
    places = {p: n for n, p in net.named_parameters()}
    names = [[places[p] for p in group["params"]] for group in optimizers[1].param_groups]
    model, ranks, place = wrapped("fsdp2", net)
    sharded = dict(model.named_parameters())
    for group, own_names in zip(optimizers[1].param_groups, names, strict=True):
        group["params"] = [sharded[n] for n in own_names]
    for step in range(5):
        for each, optimizer, share in ((alone, optimizers[0], (1, 0)), (model, optimizers[1], (ranks, place))):
            backward(each, step, torch.float64, *share)
            optimizer.step()
            optimizer.zero_grad()
    pairs = zip(alone.parameters(), model.parameters(), strict=True)
    return max(float((p - whole(q)).abs().max()) for p, q in pairs)


def flattened(when, kind, original):
    """The error that FSDP1 brings about; under blocks=None, whether the weights moved.

    Args:
        when: Whether the optimizer is made "before" or "after" FSDP1 flattens.
        kind: The blocks.
        original: Whether FSDP1 keeps the original parameters, as views of flat ones.
    """
    net = Net()
    if when == "before":
        optimizer = AdamP(groups(kind, Net(), net), lr=1e-2)
    model = FullyShardedDataParallel(net, use_orig_params=original, device_id=torch.device("cpu"))
    try:
        if when == "after":
            fixed = {"channel": Blocks(), "none": None}.get(kind, kind)
            optimizer = AdamP(model.parameters(), lr=1e-2, blocks=fixed)
        start = [p.detach().clone() for p in model.parameters()]
        loss(model, *batch(0, torch.float32)).backward()
        optimizer.step()
    except ValueError as error:
        return str(error)
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), start, strict=True) if p.numel()]
    return "moved" if all(moved) else "still"
