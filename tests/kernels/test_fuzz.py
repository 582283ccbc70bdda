"""Mutated gradients, weights, states and groups: each step is refused with nothing written, or is the definition's.

Between the steps of an optimizer whose weights and state lie between guard bytes, drawn mutations exchange tensors,
layouts, memory and settings under it. Sixty examples by default; `TANGENTIAL_FUZZ=20000 pytest
tests/kernels/test_fuzz.py` tries as many, `python tests/sanitize.py` runs them under the sanitizers. A failure prints
the example that repeats it.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from support.optimizer_makers import MAKERS, MOMENTS
from tangential import Blocks
from tangential.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")

T = TypeVar("T")
EXAMPLES = int(os.environ.get("TANGENTIAL_FUZZ", "60"))
GUARD, SENTINEL = 64, 0xA5
"""Bytes on either side of a guarded tensor, and what is in each."""
LARGE = 1e15
"""Squares of more overflow float32, in some orders of summation earlier than in others."""
REFUSALS = (ValueError, TypeError, RuntimeError)

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
shapes = st.one_of(
    st.sampled_from([(), (1,), (5,), (0,), (0, 3), (3, 0), (1, 9), (6, 6), (2, 700), (2, 3, 4, 4), (1, 1), (9, 2, 3)]),
    st.tuples(st.integers(1, 5), st.integers(9, 40)),
)
dtypes = st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16])
any_dtype = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.uint8])
any_blocks = st.sampled_from(["cosine", "cosine", "sticky", None, Blocks(), Blocks(size=None), Blocks(dim=1)])

LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.clone(memory_format=torch.contiguous_format),
    lambda x: x.mT.contiguous().mT if x.ndim > 1 else x.clone(),
    lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.clone(),
    lambda x: torch.stack([x, x], -1)[..., 0],
    lambda x: torch._neg_view(-x),
    lambda x: (
        x.reshape(-1)[:1].expand(x.shape)
        if x.numel() and x.ndim == 1
        else x[..., :1].expand(x.shape)
        if x.numel() and x.ndim
        else x
    ),
]
"""The same values, or for the last the first of each row, in other memory."""


def pick(draw, found: Sequence[T]) -> T:
    """One of these, which hypothesis never prints: a tensor may be of too little memory to be."""
    return found[draw(st.integers(0, len(found) - 1))]


def strange(draw, x: Tensor) -> Tensor:
    """A tensor of another shape, size or dtype than this one, or of a storage too short for it."""
    kind = draw(st.sampled_from(["flat", "short", "longer", "row", "empty", "dtype", "shrunk", "transposed"]))
    x = x.detach().clone()
    if kind == "dtype":
        return x.to(draw(any_dtype))
    if kind == "shrunk":
        shrink(draw, x)
        return x
    return {
        "flat": lambda: x.reshape(-1),
        "short": lambda: x.reshape(-1)[: x.numel() // 2].clone(),
        "longer": lambda: torch.cat([x.reshape(-1), x.reshape(-1)]),
        "row": lambda: x[:1] if x.ndim else x[None],
        "empty": lambda: x.new_empty(0),
        "transposed": lambda: x.mT if x.ndim > 1 else x,
    }[kind]()


def shrink(draw, x: Tensor) -> None:
    """Take memory from a tensor, once or twice: the second time its address may be the first one again.

    One between guard bytes gets other memory first, since those have to stay readable.
    """
    if x.storage_offset():
        x.data = x.detach().clone()
    memory = x.untyped_storage()
    for _ in range(draw(st.integers(1, 2))):
        memory.resize_(memory.nbytes() // 2)


def set_to(x: Tensor, value: float) -> None:
    """Give a tensor this value everywhere, with infinity where its dtype cannot hold the value."""
    x.data = torch.full(x.shape, value).to(x.dtype)


def extent(x: Tensor) -> int:
    """Elements from the first to the last of a tensor, the gaps too."""
    return 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0


def whole(x: Tensor) -> bool:
    """Whether the storage of a tensor holds all of its elements."""
    return x.untyped_storage().nbytes() >= (x.storage_offset() + extent(x)) * x.itemsize or not x.numel()


def bits(x: Tensor) -> Tensor:
    """The values as bytes, in memory of their own."""
    return torch.empty(x.numel(), dtype=x.dtype).copy_(x.detach().reshape(-1)).view(torch.uint8)


def overlap(x: Tensor, y: Tensor) -> bool:
    at, other = x.data_ptr(), y.data_ptr()
    return at < other + extent(y) * y.itemsize and other < at + extent(x) * x.itemsize


class Arena:
    """An optimizer, its parameters, and the guarded memory that was ever given to it."""

    optimizer: torch.optim.Optimizer

    def __init__(self, name: str) -> None:
        self.name = name
        self.params: list[Tensor] = []
        self.guards: list[tuple[Tensor, int]] = []
        self.log: list[str] = []

    def __repr__(self) -> str:
        shapes = [(tuple(p.shape), p.dtype) for p in self.params]
        return f"Arena({self.name}, {shapes}, {[group['blocks'] for group in self.optimizer.param_groups]})"

    def guarded(self, x: Tensor) -> Tensor:
        """A copy, with the same strides if it is dense, between guard bytes."""
        x = x.detach()
        like = torch.empty_like(x)
        size = x.numel() * x.itemsize
        memory = torch.full((size + 2 * GUARD,), SENTINEL, dtype=torch.uint8)
        self.guards.append((memory, size))
        inside = memory[GUARD : GUARD + size].view(x.dtype).as_strided(x.shape, like.stride())
        return inside.copy_(x)

    def check_guards(self) -> None:
        for memory, size in self.guards:
            assert (memory[:GUARD] == SENTINEL).all() and (memory[GUARD + size :] == SENTINEL).all(), self.log

    def state(self) -> list[tuple[dict, str]]:
        return [(own, key) for own in self.optimizer.state.values() for key in own]

    def stepping(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]

    def written(self, p: Tensor) -> list[Tensor]:
        """What a step of this parameter writes."""
        return [p, *self.optimizer.state.get(p, {}).values()]


def mutate_gradient(draw, arena: Arena) -> None:
    p = pick(draw, arena.params)
    kind = draw(st.sampled_from(["none", "layout", "value", "alias", "data", "shrink", "dtype"]))
    arena.log.append(kind)
    if kind == "none" or p.grad is None or not whole(p.grad):
        p.grad = None
    elif kind == "layout":
        p.grad.data = draw(st.sampled_from(LAYOUTS))(p.grad.detach())
    elif kind == "value":
        set_to(p.grad, draw(st.sampled_from([0.0, float("nan"), float("inf"), 1e30, 1e-30])))
    elif kind == "alias":
        others = [p, *(q.grad for q in arena.params), *(own[key] for own, key in arena.state()), *arena.params]
        found = [x for x in others if x is not None and x.shape == p.shape and x.dtype == p.dtype]
        p.grad.data = pick(draw, found).detach()
    elif kind == "data":
        p.grad.data = strange(draw, p.grad)
    elif kind == "shrink":
        shrink(draw, p.grad)
    elif p.grad.shape == p.shape:
        p.grad_dtype = None
        p.grad = p.grad.to(draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])))


def mutate_weight(draw, arena: Arena) -> None:
    p = pick(draw, arena.params)
    kind = draw(st.sampled_from(["layout", "guarded", "set", "strange", "shrink", "value"]))
    arena.log.append(kind)
    if not whole(p):
        p.data = torch.ones(p.shape).to(p.dtype)
    elif kind == "layout":
        p.data = draw(st.sampled_from(LAYOUTS))(p.detach())
    elif kind == "guarded":
        p.data = arena.guarded(p)
    elif kind == "set":
        with torch.no_grad():
            p.set_(p.detach().clone())
    elif kind == "strange":
        other = strange(draw, p)
        p.data = other if other.is_floating_point() else other.double()
        if draw(st.booleans()) and whole(p):
            p.grad = None
            p.grad_dtype = None
            p.grad = torch.ones_like(p.detach())
    elif kind == "shrink":
        shrink(draw, p)
    else:
        set_to(p, draw(st.sampled_from([0.0, float("nan"), 1e30, 1e-20])))


def mutate_state(draw, arena: Arena) -> None:
    """Exchange an entry of the state, change its memory in place, or exchange a parameter's whole state for none."""
    entries = arena.state()
    if not entries:
        return
    own, key = pick(draw, entries)
    kind = draw(st.sampled_from(["strange", "layout", "guarded", "clear", "alias", "shape", "data", "shrink"]))
    arena.log.append(f"{kind} {key}")
    if not whole(own[key]):
        own.clear()
    elif kind == "strange":
        own[key] = strange(draw, own[key])
    elif kind == "layout":
        own[key] = draw(st.sampled_from(LAYOUTS if own[key].is_floating_point() else LAYOUTS[:4]))(own[key])
    elif kind == "guarded":
        own[key] = arena.guarded(own[key])
    elif kind == "clear":
        own.clear()
    elif kind == "alias":
        alike = [x[k] for x, k in entries if x[k].shape == own[key].shape and x[k].dtype == own[key].dtype]
        own[key] = pick(draw, alike)
    elif kind == "data":
        other = strange(draw, own[key])
        own[key].data = other.to(own[key].dtype) if draw(st.booleans()) else other
    elif kind == "shrink":
        shrink(draw, own[key])
    else:
        own[key] = torch.zeros(draw(shapes), dtype=own[key].dtype)


def mutate_group(draw, arena: Arena) -> None:
    groups = arena.optimizer.param_groups
    group = pick(draw, groups)
    kind = draw(st.sampled_from(["lr", "betas", "blocks", "maximize", "fused", "add", "remove", "reorder", "nesterov"]))
    arena.log.append(kind)
    if kind == "lr":
        group["lr"] = draw(st.sampled_from([0.0, 1e-3, 0.1, -1.0, torch.tensor(1e-2), "0.1"]))
    elif kind == "betas":
        key = "betas" if "betas" in group else "momentum"
        group[key] = draw(st.sampled_from([(0.5, 0.9), (0.0, 0.0), 0.5, 0.0, (0.9,), None]))
    elif kind == "blocks":
        group["blocks"] = draw(st.one_of(any_blocks, st.sampled_from(["x", Blocks(size=2), 3])))
    elif kind in ("maximize", "nesterov"):
        group[kind] = draw(st.booleans())
    elif kind == "fused":
        group["fused"] = draw(st.sampled_from([None, True, False]))
    elif kind == "add":
        p = make_weight(draw, arena)
        p.grad = torch.ones_like(p.detach())
        arena.params.append(p)
        group["params"].append(p)
    elif kind == "remove" and group["params"]:
        del group["params"][draw(st.integers(0, len(group["params"]) - 1))]
    else:
        group["params"].reverse()
        groups.reverse()


def make_weight(draw, arena: Arena) -> Tensor:
    x = torch.randn(draw(shapes)).to(draw(dtypes))
    return arena.guarded(draw(st.sampled_from(LAYOUTS[:3]))(x)).requires_grad_()


@st.composite
def arenas(draw) -> Arena:
    torch.manual_seed(draw(st.integers(0, 999)))
    arena = Arena(draw(st.sampled_from(sorted(MAKERS))))
    groups = []
    for _ in range(draw(st.integers(1, 3))):
        blocks = draw(any_blocks)
        made = [make_weight(draw, arena) for _ in range(draw(st.integers(1, 2)))]
        if isinstance(blocks, Blocks):
            made = [p for p in made if fits(p, blocks)]
        if made:
            arena.params += made
            groups.append(dict(params=made, blocks=blocks, nesterov=draw(st.booleans())))
    if not groups:
        arena.params = [arena.guarded(torch.randn(3, 10)).requires_grad_()]
        groups = [dict(params=list(arena.params))]
    arena.optimizer = MAKERS[arena.name](groups, fused=draw(st.sampled_from([None, True])))
    return arena


def fits(p: Tensor, blocks: Blocks) -> bool:
    try:
        MAKERS["adamp"]([p], blocks=blocks)
    except ValueError:
        return False
    return True


def twin_of(arena: Arena) -> tuple[torch.optim.Optimizer, dict[int, Tensor]]:
    """The optimizer over copies that share no memory, one tensor at a time; raises what its checks raise.

    Without the parameters that have no gradient: nothing is asked of those.
    """
    kept = arena.optimizer.defaults.keys() - {"foreach", "fused"}
    twins, groups, states = {}, [], {}
    for group in arena.optimizer.param_groups:
        stepping = [p for p in group["params"] if p.grad is not None]
        for p in stepping:
            q = twins[id(p)] = p.detach().clone().requires_grad_()
            q.grad_dtype = None
            q.grad = p.grad.detach().resolve_neg().clone()
            own = arena.optimizer.state.get(p, {})
            if own:
                states[q] = {key: x.clone() for key, x in own.items() if key != "projected"}
        if stepping:
            groups.append({**{k: group[k] for k in kept}, "params": [twins[id(p)] for p in stepping]})
    twin = MAKERS[arena.name](groups or [torch.zeros(1, requires_grad=True)], foreach=False)
    for q, own in states.items():
        twin.state[q] = own
    return twin, twins


def step_as_defined(arena: Arena) -> None:
    """Take a step, and compare it with that of the twin."""
    optimizer, stepping, log = arena.optimizer, arena.stepping(), arena.log
    inputs = [x for p in stepping for x in (p, p.grad, *(optimizer.state.get(p, {}).values()))]
    everything = [x for p in arena.params for x in (*arena.written(p), p.grad) if x is not None]
    before = [(x, bits(x)) for x in everything if whole(x)]
    used = [x for p in stepping for x in (p, p.grad, *(optimizer.state.get(p, {}).get(k) for k in MOMENTS[arena.name]))]
    short = not all(whole(x) for x in used if x is not None)
    twin = twins = refusal = None
    if all(map(whole, [*inputs, *everything])):
        try:
            twin, twins = twin_of(arena)
            twin.step()
        except (*REFUSALS, IndexError) as error:
            refusal = error
    try:
        optimizer.step()
    except REFUSALS as error:
        assert str(error)
        assert all(torch.equal(bits(x), old) for x, old in before), (log, "written although refused", error)
        return
    finally:
        arena.check_guards()
    assert not short, (log, "memory is missing")
    assert refusal is None, (log, "the definition refuses", refusal)
    if twins is None:
        return
    old = {id(x): values for x, values in before}
    for p in stepping:
        compare(arena, p, twins[id(p)], twin.state[twins[id(p)]], old)
    touched = {id(x) for p in stepping for x in arena.written(p)}
    apart = [x for p in stepping for x in arena.written(p)]
    for x, values in before:
        if id(x) not in touched and not any(overlap(x, y) for y in apart):
            assert torch.equal(bits(x), values), (log, "another tensor was written")


def compare(arena: Arena, p: Tensor, q: Tensor, theirs: dict, old: dict) -> None:
    """A weight and its moments are those of its twin to rounding, unless it shares what is written, or overflows."""
    own = arena.optimizer.state[p]
    shared = [y for other in arena.stepping() for y in arena.written(other)]
    mine = arena.written(p)
    if any(x is not y and overlap(x, y) for x in mine for y in shared):
        return  # two results of one place: no definition says which stays
    if len({id(x) for x in shared}) < len(shared):
        return
    for x, y in [(p, q), *((own[k], theirs[k]) for k in MOMENTS[arena.name])]:
        was = old[id(x)].view(x.dtype).double() if id(x) in old else torch.zeros(1)
        x, y = x.detach().double(), y.detach().double()
        size = (
            float(torch.cat([z.reshape(-1) for z in (was, y, q.grad.detach().double())]).abs().amax())
            if y.numel()
            else 0.0
        )
        if size < LARGE:  # which NaN is not
            stored = (p, q.grad, *(own[k] for k in MOMENTS[arena.name]))  # a moment may have been made a coarse one
            eps = max(torch.finfo(z.dtype).eps for z in stored if z.is_floating_point())
            assert float((x - y).abs().max() if x.numel() else 0.0) <= 16 * max(eps, 1e-6) * max(size, 1e-30), (
                arena.log,
                x,
                y,
            )


MUTATIONS = [mutate_gradient, mutate_gradient, mutate_weight, mutate_state, mutate_group]


@fuzz
@given(arena=arenas(), data=st.data())
def test_mutated_step_is_refused_whole_or_is_the_definition(arena, data):
    for step in range(data.draw(st.integers(2, 6))):
        for p in arena.params:
            if data.draw(st.integers(0, 3)) or step == 0:
                p.grad = None
                p.grad_dtype = None
                p.grad = torch.randn(p.shape).to(p.dtype)
        if step == 1 and data.draw(st.booleans()):
            for own, key in arena.state():
                own[key] = arena.guarded(own[key])
        for _ in range(data.draw(st.integers(0, 3)) if step else 0):
            mutation = data.draw(st.sampled_from(MUTATIONS))
            arena.log.append(f"step {step}: {mutation.__name__}")
            mutation(data.draw, arena)
        step_as_defined(arena)
