"""State that a run changes is put back, between the passes of an analysis and for the user at its end."""

from __future__ import annotations

import copy
import functools
import random
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tangential import Blocks
from tangential.invariances import find_invariances
from tangential.invariances.isolation.state import State

COUNTS = {"calls": 0}
TABLES: dict[int, torch.Tensor] = {}
CALLS = 0
ROWS = [torch.ones(8)]


@functools.lru_cache
def cached_table(n, dtype=torch.float32):
    return torch.linspace(0, 1, n, dtype=dtype)


def module_level_table(n):
    if n not in TABLES:
        TABLES[n] = torch.arange(n, dtype=torch.float32) / 7
    return TABLES[n]


class Base(nn.Module):
    """Linear layers before a normalisation (invariant) and before a head (variant), with something to keep state in."""

    seen: torch.Tensor | None = None
    moving = torch.ones(8)

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)
        self.calls = 0
        self.history = []

    def forward(self, x):
        return self.head(self.norm(self.linear(self.changed(x))).tanh())

    def changed(self, x):
        return x


class Counting(Base):
    def changed(self, x):
        self.calls += 1
        return x * self.calls


class Remembering(Base):
    def changed(self, x):
        self.history.append(x.mean())
        return x + torch.stack(self.history).sum()


class Clipping(Base):
    def changed(self, x):
        with torch.no_grad():
            self.head.weight.clamp_(-0.05, 0.05).mul_(0.5)
        return x


class ClippingData(Base):
    def changed(self, x):
        self.head.weight.data.mul_(0.5)
        return x


class OfTheClass(Base):
    def changed(self, x):
        type(self).moving.mul_(0.9).add_(0.3)
        return x * type(self).moving


class Rebinding(Base):
    def changed(self, x):
        Rebinding.seen = x.detach() if Rebinding.seen is None else Rebinding.seen + 1
        return x + Rebinding.seen


class Global(Base):
    def changed(self, x):
        global CALLS
        CALLS += 1
        COUNTS["calls"] += 1
        return x * (CALLS + COUNTS["calls"])


class Tables(Base):
    def changed(self, x):
        ROWS[0].mul_(0.5)
        return x + cached_table(8) + module_level_table(8) + ROWS[0]


class Hooked(Base):
    def __init__(self):
        super().__init__()
        self.norm.register_forward_hook(lambda module, inputs, output: OUTPUTS.append(output))


OUTPUTS: list[torch.Tensor] = []


class Drawing(Base):
    def __init__(self):
        super().__init__()
        self.generator = random.Random(3)
        self.numpy = np.random.default_rng(3)

    def changed(self, x):
        return x * (1 + self.generator.random()) + float(self.numpy.random())


class Running(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.plain = torch.zeros(8)
        self.array = np.zeros(8)

    def changed(self, x):
        self.mean = 0.9 * self.mean + x.mean(0)
        self.plain.add_(x.mean(0))
        self.array += 1
        return x + self.mean + self.plain + torch.from_numpy(self.array).float()


KINDS = [
    *(Counting, Remembering, Clipping, ClippingData, OfTheClass, Rebinding),
    *(Global, Tables, Hooked, Drawing, Running),
]


def user_state(model):
    """All that the analysis may not change, comparable."""
    kinds = [kind for kind in type(model).__mro__ if kind.__module__ == __name__]
    own = {name: copy.deepcopy(value) for name, value in vars(model).items() if not name.startswith("_")}
    return {
        "tensors": [t.detach().clone() for t in (*model.parameters(), *model.buffers())],
        "dtypes": [t.dtype for t in (*model.parameters(), *model.buffers())],
        "own": own,
        "class": [copy.deepcopy((vars(kind).get("moving"), vars(kind).get("seen"))) for kind in kinds],
        "globals": copy.deepcopy((CALLS, COUNTS, TABLES, ROWS, OUTPUTS)),
        "cache": cached_table.cache_info(),
        "drawn": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
        "dtype": torch.get_default_dtype(),
    }


def same(a, b):
    if isinstance(a, (torch.Tensor, np.ndarray)):
        return type(a) is type(b) and a.dtype == b.dtype and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, random.Random):
        return a.getstate() == b.getstate()
    if isinstance(a, np.random.Generator):
        return a.bit_generator.state == b.bit_generator.state
    return a == b


@pytest.fixture(autouse=True)
def _fresh_tables():
    TABLES.clear()
    OUTPUTS.clear()
    cached_table.cache_clear()
    Rebinding.seen = None


@pytest.mark.parametrize("kind", KINDS)
def test_every_pass_starts_from_the_same_state(kind):
    found = find_invariances(kind(), torch.randn(6, 8))
    assert (found["linear.weight"], found["head.weight"]) == (Blocks(size=None), None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warm", [False, True])
def test_the_user_finds_everything_as_it_was(kind, warm):
    model, x = kind(), torch.randn(6, 8)
    if warm:
        with torch.no_grad():
            model(x)
    before = user_state(model)
    find_invariances(model, x)
    assert same(before, user_state(model))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_the_user_finds_everything_as_it_was_when_the_analysis_is_cut_off(kind, error, after):
    model, x = kind(), torch.randn(6, 8)
    runs = iter(range(after))

    def run(net, x):
        out = net(x)
        if next(runs, None) is None:
            raise error("stop")
        return out

    before = user_state(model)
    with pytest.raises((ValueError, KeyboardInterrupt), match="stop"):
        find_invariances(model, x, forward=run)
    assert same(before, user_state(model))


@pytest.mark.parametrize("kind", [Tables, OfTheClass])
def test_the_model_returns_the_same_bits_after_the_analysis(kind):
    model, x = kind(), torch.randn(6, 8)
    twin = copy.deepcopy(model)
    find_invariances(model, x)
    state = copy.deepcopy((ROWS, TABLES)), type(model).moving.clone()
    first = model(x)
    ROWS[0].copy_(state[0][0][0])
    TABLES.clear()
    cached_table.cache_clear()
    type(model).moving.copy_(state[1])
    assert torch.equal(first, twin(x))


def test_entries_of_the_users_cache_stay_the_same_objects():
    table = cached_table(8)
    find_invariances(Tables(), torch.randn(6, 8))
    assert cached_table(8) is table
    assert table.dtype == torch.float32


# A teacher that follows the weights.


class Student(nn.Module):
    """A student before a normalisation, and a teacher that follows it."""

    def __init__(self, follow):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.innocent = nn.Linear(8, 3)
        self.follow = follow

    def forward(self, x):
        for new, old in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
            self.follow(old, new)
        y = self.student(x)
        return F.cosine_similarity(y, self.teacher(x).detach()), self.innocent(y.tanh())


def without_gradient(function):
    def follow(old, new):
        with torch.no_grad():
            function(old, new)

    return follow


@pytest.mark.parametrize(
    "follow",
    [
        without_gradient(lambda old, new: old.lerp_(new, 0.01)),
        without_gradient(lambda old, new: old.mul_(0.99).add_(new, alpha=0.01)),
        without_gradient(lambda old, new: old.copy_(0.99 * old + 0.01 * new)),
        lambda old, new: old.data.mul_(0.99).add_(new.data, alpha=0.01),
    ],
)
def test_a_teacher_does_not_change_the_students_verdict(follow):
    torch.manual_seed(0)
    model = Student(follow)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = find_invariances(model, torch.randn(16, 6))
    assert found["student.0.weight"] == Blocks()
    assert found.verdict("teacher.0.weight").kind == "frozen"
    assert found["innocent.weight"] is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Objects in the batch.


@dataclass
class Batch:
    x: torch.Tensor
    extra: dict = field(default_factory=dict)


class Slotted:
    __slots__ = ("extra", "x")

    def __init__(self, x):
        self.x, self.extra = x, {}


class NotCopyable(Slotted):
    __slots__ = ()

    def __deepcopy__(self, memo):
        raise TypeError("no copies")


@pytest.mark.parametrize("kind", [Batch, Slotted, NotCopyable])
def test_a_batch_object_that_the_model_changes_is_the_users(kind):
    class Reader(Base):
        def forward(self, batch):
            batch.x.mul_(0.5)
            batch.extra["seen"] = batch.x
            return self.norm(self.linear(batch.x))

    batch = kind(torch.ones(6, 8))
    held = batch.x
    found = find_invariances(Reader(), batch)
    assert found["linear.weight"] == Blocks(size=None)
    assert (batch.x is held, batch.extra, held.dtype) == (True, {}, torch.float32)
    assert torch.equal(held, torch.ones(6, 8))


# Other threads.


def test_other_threads_keep_their_default_dtype():
    stop, wrong = threading.Event(), []

    def watch():
        while not stop.is_set():
            if torch.zeros(1).dtype != torch.float32:
                wrong.append(True)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        find_invariances(Base(), torch.randn(6, 8))
    finally:
        stop.set()
        thread.join()
    assert not wrong


def test_analyses_at_once_give_what_they_give_one_by_one():
    models = [Counting(), Running(), Base(), Remembering()]
    x = torch.randn(6, 8)
    alone = [find_invariances(model, x).to_json() for model in models]
    found = [""] * len(models)

    def analyse(index):
        found[index] = find_invariances(models[index], x).to_json()

    threads = [threading.Thread(target=analyse, args=(index,)) for index in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone
    assert torch.get_default_dtype() == torch.float32


def test_factories_without_a_dtype_compute_in_float64():
    class Scattering(Base):
        def changed(self, x):
            out = torch.zeros(x.shape)
            out.index_add_(0, torch.arange(len(x)), x)
            least = torch.tensor(torch.finfo(x.dtype).min).exp() + torch.full((8,), torch.finfo(x.dtype).min).exp()
            return out + least + torch.tensor(0.1) + torch.full((8,), 0.3) + torch.arange(8) / 3

    find_invariances(Scattering(), torch.randn(6, 8))


def test_the_copy_is_freed_at_once():
    import gc
    import weakref

    copies = []

    def run(net, x):
        copies.append(weakref.ref(net))
        return net(x)

    gc.collect()
    gc.disable()
    try:
        find_invariances(Base(), torch.randn(6, 8), forward=run)
        assert all(reference() is None for reference in copies)
    finally:
        gc.enable()


# The recorder itself.


@pytest.mark.parametrize(
    ("thing", "change"),
    [
        ([1, 2], lambda x: x.append(3)),
        ({"a": 1}, lambda x: x.update(b=2)),
        (OrderedDict(a=1, b=2), lambda x: x.move_to_end("a")),
        (defaultdict(list, a=[1]), lambda x: x["b"].append(2)),
        (Counter("aab"), lambda x: x.update("c")),
        ({1, 2}, lambda x: x.discard(1)),
        (deque([1, 2]), lambda x: x.popleft()),
        (bytearray(b"ab"), lambda x: x.extend(b"c")),
        (np.zeros(3), lambda x: x.__setitem__(0, 1.0)),
        ([[1], {"a": {2}}], lambda x: x[1]["a"].add(3)),
    ],
)
def test_containers_are_put_back_in_place(thing, change):
    before, state = copy.deepcopy(thing), State([thing])
    change(thing)
    state.restore()
    assert type(thing) is type(before)
    assert list(thing) == list(before)
    assert str(thing) == str(before)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.mul_(2),
        lambda t: setattr(t, "data", torch.zeros(7)),
        lambda t: t.resize_(9),
        lambda t: t.add_(torch.ones(3, requires_grad=True)),
    ],
)
def test_tensors_are_put_back_in_place(change):
    tensor = torch.arange(3.0)
    state = State([[tensor]])
    change(tensor)
    state.restore()
    assert torch.equal(tensor, torch.arange(3.0))
    assert not tensor.requires_grad


def test_closures_defaults_and_function_attributes_are_put_back():
    count, kept = 0, [1]

    def run(x, cache={}):  # noqa: B006
        nonlocal count
        count += 1
        cache[x] = kept.append(x)
        run.last = x

    state = State([run])
    run(5)
    state.restore()
    assert (count, kept, run.__defaults__, vars(run)) == (0, [1], ({},), {})
