"""Steps of sharded weights beside the same steps of one process; every function runs in all processes of a world."""

from functools import lru_cache

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode

from support.step_matrix import RULES
from tangential import AdamP, Blocks

SHAPES = [(8, 3, 3, 3), (7, 12), (1, 6), (6, 5, 4), (3, 4), (9,), (2, 2, 3)]
"""Weights of one to four dimensions; on 2 and 4 ranks they are even, uneven, and empty on some."""

BLOCKS = {
    "cosine": "cosine",
    "sticky": "sticky",
    "channel": Blocks(),
    "layer": Blocks(size=None),
    "heads": Blocks(size=2),
    "dim1": Blocks(dim=1),
    "fused": Blocks(segments=((0, 4, 2), (4, 5, 1))),
    "none": None,
}

PLACEMENTS = {
    "replicate": (Replicate(),),
    "shard0": (Shard(0),),
    "shard1": (Shard(1),),
    "hsdp": (Replicate(), Shard(0)),
    "shard0x1": (Shard(0), Shard(1)),
    "shard0x0": (Shard(0), Shard(0)),
    "shard1xreplicate": (Shard(1), Replicate()),
}
ON_TWO = ("replicate", "shard0", "shard1")
ON_FOUR = tuple(PLACEMENTS)


@lru_cache
def mesh_of(layout):
    """A mesh over all ranks with as many dimensions as the layout has; kept, since each makes process groups."""
    size = dist.get_world_size()
    shape = (size,) if len(PLACEMENTS[layout]) == 1 else (2, size // 2)
    return init_device_mesh("cpu", shape)


def placements_of(layout, shape):
    """The placements for a weight of this shape; dimensions it has not are replicated."""
    return [Replicate() if isinstance(x, Shard) and x.dim >= len(shape) else x for x in PLACEMENTS[layout]]


def blocks_for(kind, shape):
    """These blocks if the weight may have them, else none."""
    blocks = BLOCKS[kind]
    if not isinstance(blocks, Blocks):
        return blocks
    try:
        blocks.check(shape)
    except ValueError:
        return None
    return blocks if blocks.smallest(shape) > 1 else None


def starts(kinds, dtype):
    """The weights of every kind of blocks: `(kind, tensor)` pairs."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(kind, shape) for kind in kinds for shape in SHAPES]
    return [(kind, torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for kind, shape in pairs]


def groups_of(kinds, params):
    """One parameter group per different blocks."""
    together = {}
    for kind, p in zip(kinds, params, strict=True):
        together.setdefault(blocks_for(kind, p.shape), []).append(p)
    return [dict(params=params, blocks=blocks) for blocks, params in together.items()]


def gradient(w, generator, way):
    """A random gradient: as it comes, orthogonal to every row of the weight, or to the whole of it."""
    g = torch.randn(w.shape, generator=generator, dtype=torch.float64)
    if way and w.ndim > 1:
        x = w.detach().double().flatten(1) if way == 1 else w.detach().double().flatten()[None]
        y = g.view_as(x)
        g = (y - (x * y).sum(1, keepdim=True) / (x * x).sum(1, keepdim=True) * x).view_as(w)
    return g.to(w.dtype)


@lru_cache(maxsize=8)
def one_process(rule, kinds, dtype, steps, **settings):
    """What one process does, by the backend that reads like the definition: gradients of every step, last weights."""
    cls, own = RULES[rule]
    names, tensors = zip(*starts(kinds, dtype), strict=True)
    params = [nn.Parameter(w.clone()) for w in tensors]
    optimizer = cls(groups_of(names, params), **{**own, **settings, "foreach": False})
    generator = torch.Generator().manual_seed(1)
    grads = []
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = gradient(p, generator, (i + step) % 3)
        grads.append([p.grad.clone() for p in params])
        optimizer.step()
    return grads, [p.detach() for p in params]


def spread(tensor, mesh, layout):
    """This rank's part of a tensor that every rank has, as a DTensor; no message."""
    return distribute_tensor(tensor, mesh, placements_of(layout, tensor.shape), src_data_rank=None)


def sharded_run(rule, kinds, dtype, layout, grads, **settings):
    """The same steps on sharded weights: the parts that lie here afterwards, and what stepped them."""
    cls, own = RULES[rule]
    mesh = mesh_of(layout)
    names, tensors = zip(*starts(kinds, dtype), strict=True)
    params = [nn.Parameter(spread(w, mesh, layout)) for w in tensors]
    optimizer = cls(groups_of(names, params), **{**own, **settings})
    for now in grads:
        for p, g in zip(params, now, strict=True):
            p.grad = spread(g, mesh, layout)
        optimizer.step()
    return params, optimizer


def differences(names, params, whole):
    """Largest difference by kind of blocks and shape, relative to the largest element of each whole weight."""
    found = {}
    for kind, p, w in zip(names, params, whole, strict=True):
        own = distribute_tensor(w, p.device_mesh, p.placements, src_data_rank=None).to_local()
        gap = (p.to_local() - own).abs().max() / w.abs().max() if own.numel() else torch.zeros(())
        found[f"{kind} {tuple(w.shape)}"] = float(gap)
    return found


def matrix_case(rule, kinds, dtype, layout, grads, whole, **settings):
    """Differences between sharded and whole weights after the steps, and the backends in use."""
    params, optimizer = sharded_run(rule, kinds, dtype, layout, grads, **settings)
    names, _ = zip(*starts(kinds, dtype), strict=True)
    return differences(names, params, whole), optimizer.backend


def message_counts(rule, kind, layout, grads):
    """Collectives of one step under one kind of blocks, by name."""
    _, optimizer = sharded_run(rule, (kind,), torch.float64, layout, grads)
    with CommDebugMode() as messages:
        optimizer.step()
    return {str(name): count for name, count in messages.get_comm_counts().items() if count}


def compiled(kind, grads, whole, **settings):
    """Differences after steps that are compiled whole."""
    torch._dynamo.reset()
    cls, own = RULES["adamp"]
    mesh = mesh_of("shard0")
    names, tensors = zip(*starts((kind,), torch.float32), strict=True)
    params = [nn.Parameter(spread(w, mesh, "shard0")) for w in tensors]
    optimizer = cls(groups_of(names, params), **{**own, **settings})
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    for now in grads:
        for p, g in zip(params, now, strict=True):
            p.grad = spread(g, mesh, "shard0")
        step()
    return differences(names, params, whole)


def scheduled(rule):
    """Largest difference where the rate is a tensor that a schedule changes."""
    cls, own = RULES[rule]
    mesh = mesh_of("shard0")
    kinds = ("cosine", "layer")
    names, tensors = zip(*starts(kinds, torch.float64), strict=True)
    whole = [nn.Parameter(w.clone()) for w in tensors]
    parts = [nn.Parameter(spread(w, mesh, "shard0")) for w in tensors]
    pairs = []
    for params, rate in ((whole, 1e-2), (parts, torch.tensor(1e-2, dtype=torch.float64))):
        optimizer = cls(groups_of(names, params), **{**own, "lr": rate})
        pairs.append((optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)))
    generator = torch.Generator().manual_seed(2)
    for step in range(6):
        for i, (p, q) in enumerate(zip(whole, parts, strict=True)):
            p.grad = gradient(p, generator, (i + step) % 3)
            q.grad = spread(p.grad, mesh, "shard0")
        for optimizer, schedule in pairs:
            optimizer.step()
            schedule.step()
    return max(differences(names, parts, whole).values())


def message_bytes():
    """`(kind, bytes of a step, layout)`, as counted where the message is sent."""
    found = []
    for kind, layout in (("cosine", "shard0"), ("cosine", "shard1"), ("layer", "shard1"), ("channel", "shard0")):
        grads, _ = one_process("adamp", (kind,), torch.float32, 1)
        _, optimizer = sharded_run("adamp", (kind,), torch.float32, layout, grads)
        sent = []
        with SentBytes(sent):
            optimizer.step()
        found.append((kind, sum(sent), layout))
    return tuple(found)


class SentBytes(TorchDispatchMode):
    """Appends the bytes of every all-reduce to a list."""

    def __init__(self, sent):
        super().__init__()
        self.sent = sent

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "all_reduce" in str(function):
            self.sent.append(args[0].numel() * args[0].itemsize)
        return function(*args, **(kwargs or {}))


def one_sided(rule, kind):
    """Whether the part on this rank moved, and its difference from one process whose gradient is zero on rank 1.

    One step, without momentum from before: what has no gradient does not move, and counts with a gradient of zero.
    """
    cls, own = RULES[rule]
    mesh = mesh_of("shard0")
    start = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g = gradient(start, torch.Generator().manual_seed(1), 1)
    g[3:] = 0
    whole, part = nn.Parameter(start.clone()), nn.Parameter(spread(start, mesh, "shard0"))
    settings = {**own, "weight_decay": 0.0}
    alone = cls([dict(params=[whole], blocks=BLOCKS[kind])], **settings)
    optimizer = cls([dict(params=[part], blocks=BLOCKS[kind])], **settings)
    whole.grad = g
    if dist.get_rank() == 0:
        part.grad = DTensor.from_local(
            g[:3].clone(), mesh, part.placements, run_check=False, shape=g.shape, stride=(4, 1)
        )
    alone.step()
    optimizer.step()
    own_start = spread(start, mesh, "shard0").to_local()
    moved = not torch.equal(part.to_local(), own_start)
    expected = spread(whole.detach(), mesh, "shard0").to_local() if moved else own_start
    return moved, float((part.to_local() - expected).abs().max())


def partial_gradients():
    """Largest difference where every rank holds a summand of the gradient of a replicated, and of a sharded weight."""
    mesh = mesh_of("shard0")
    start = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gaps = []
    for layout in ("replicate", "shard0"):
        whole, part = nn.Parameter(start.clone()), nn.Parameter(spread(start, mesh, layout))
        whole.grad = shares.sum(0)
        part.grad = DTensor.from_local(shares[dist.get_rank()].clone(), mesh, [Partial()], run_check=False)
        for p in (whole, part):
            AdamP([p], lr=1e-2).step()
        gaps += differences(("",), [part], [whole.detach()]).values()
    return max(gaps)


def replica_bits():
    """The bits of this rank's parts after steps on a mesh of two replicas of two shards."""
    grads, _ = one_process("adamp", ("cosine", "layer"), torch.float32, 5)
    params, _ = sharded_run("adamp", ("cosine", "layer"), torch.float32, "hsdp", grads)
    return b"".join(p.to_local().detach().numpy().tobytes() for p in params)


REFUSED = {
    "plain gradient": "must be a DTensor",
    "fused": "fused=True, but the blocks of parameter 0 are spread over ranks",
    "differentiable": "whose step cannot be recorded",
    "partial weight": "hold partial sums",
    "blocks": "does not divide dimension 0",
    "one element": "has blocks of one element",
    "plain moments": "not spread over ranks alike",
}


def refusal(bad):
    """The error that a bad argument, gradient or state raises."""
    mesh = mesh_of("shard0")
    w = nn.Parameter(spread(torch.ones(6, 4), mesh, "shard0"))
    settings = {
        "fused": dict(fused=True),
        "differentiable": dict(differentiable=True),
        "blocks": dict(blocks=Blocks(size=4)),
    }
    if bad == "partial weight":
        w = nn.Parameter(DTensor.from_local(torch.ones(6, 4), mesh, [Partial()], run_check=False))
    if bad == "one element":
        w = nn.Parameter(spread(torch.ones(6), mesh, "shard0"))
        settings[bad] = dict(blocks=Blocks())
    try:
        optimizer = AdamP([w], lr=1e-2, **settings.get(bad, {}))
        w.grad = torch.ones(6, 4) if bad == "plain gradient" else spread(torch.ones(6, 4), mesh, "shard0")
        if bad == "plain moments":
            optimizer.step()
            optimizer.state[w]["exp_avg"] = torch.zeros(6, 4)
        before = w.to_local().clone()
        optimizer.step()
    except ValueError as error:
        if w.grad is not None:
            assert torch.equal(w.to_local(), before)
        return str(error)
    return "nothing was raised"
