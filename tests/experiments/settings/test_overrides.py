from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pytest
import torch

from tangential.experiments.settings.overrides import FIXED, override


def make(
    given, *, betas: tuple[float, float] = (0.9, 0.999), sizes: tuple[int, ...] = (), lr: float | torch.Tensor = 0.1
):
    return given, betas, sizes, lr


@dataclass(frozen=True)
class Inner:
    limit: int | None = None
    rate: float = 0.5
    on: bool = False
    word: str = "plain"
    opaque: Sequence[int] = ()


@dataclass(frozen=True)
class Outer:
    epochs: int = 20
    inner: Inner = Inner()
    calls: dict = field(default_factory=lambda: {"a": partial(make, lr=0.1)})
    name: str = field(default="outer", metadata=FIXED)

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs}: must be at least 1")


def changed(assignment, path):
    value = override(Outer(), assignment)
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("epochs=3", 3),
        ("inner.limit=7", 7),
        ("inner.limit=none", None),
        ("inner.limit=None", None),
        ("inner.rate=1", 1.0),
        ("inner.rate=1e-3", 1e-3),
        ("inner.rate=-.5", -0.5),
        ("inner.on=true", True),
        ("inner.on=False", False),
        ("inner.word=none", "none"),
        ("inner.word=16", "16"),
        ("inner.word=a=b", "a=b"),
        ("inner.word=", ""),
    ],
)
def test_text_is_read_as_the_type_in_the_code(assignment, value):
    result = changed(assignment, assignment.partition("=")[0])
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("assignment", "keywords"),
    [
        ("calls.a.lr=1", {"lr": 1.0}),
        ("calls.a.betas=0.5,1", {"lr": 0.1, "betas": (0.5, 1.0)}),
        ("calls.a.betas=(0.5, 0.9)", {"lr": 0.1, "betas": (0.5, 0.9)}),
        ("calls.a.sizes=1,2,3", {"lr": 0.1, "sizes": (1, 2, 3)}),
    ],
)
def test_argument_of_a_call_is_set_though_it_was_left_to_its_default(assignment, keywords):
    result = override(Outer(), assignment).calls["a"]
    assert (result.func, result.keywords) == (make, keywords)


def test_value_that_is_changed_stays_as_it_was():
    outer = Outer()
    override(outer, "calls.a.lr=9")
    override(outer, "inner.limit=9")
    assert outer.calls["a"].keywords == {"lr": 0.1}
    assert outer.inner == Inner()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=1.5", "epochs=1.5: expected int, like 20"),
        ("epochs=true", "epochs=true: expected int, like 20"),
        ("epochs=", "epochs=: expected int, like 20"),
        ("inner.limit=x", "inner.limit=x: expected int or none"),
        ("inner.rate=fast", "inner.rate=fast: expected finite float, like 0.5"),
        ("inner.rate=true", "inner.rate=true: expected finite float, like 0.5"),
        ("inner.rate=nan", "inner.rate=nan: expected finite float, like 0.5"),
        ("inner.rate=inf", "inner.rate=inf: expected finite float, like 0.5"),
        ("inner.rate=1e999", "inner.rate=1e999: expected finite float, like 0.5"),
        ("inner.on=1", "inner.on=1: expected true or false, like false"),
        (
            "calls.a.betas=0.9",
            "calls.a.betas=0.9: expected 2 values (finite float) with commas between, like 0.9,0.999",
        ),
        (
            "calls.a.betas=1,2,3",
            "calls.a.betas=1,2,3: expected 2 values (finite float) with commas between, like 0.9,0.999",
        ),
        ("calls.a.lr=[1]", "calls.a.lr=[1]: expected finite float, like 0.1"),
        ("inner.opaque=1", "inner.opaque=1: this cannot be set by text"),
        ("inner=1", "inner=1: this is a group of settings; set one of limit, rate, on, word, opaque"),
        ("epoch=1", "epoch=1: the recipe has no 'epoch'; it has epochs, inner, calls; did you mean 'epochs'?"),
        ("name=x", "name=x: the recipe has no 'name'; it has epochs, inner, calls"),
        (
            "inner.limits=1",
            "inner.limits=1: inner has no 'limits'; it has limit, rate, on, word, opaque; did you mean 'limit'?",
        ),
        ("calls.b.lr=1", "calls.b.lr=1: calls has no 'b'; it has a"),
        ("calls.a.given=1", "calls.a.given=1: calls.a has no 'given'; it has betas, sizes, lr"),
        ("epochs.x=1", "epochs.x=1: epochs is one value, not a group of settings"),
        ("epochs", "'epochs' is not an override; write field=value, as in epochs=20"),
        ("=3", "'=3' is not an override; write field=value, as in epochs=20"),
        ("epochs=0", "epochs=0: must be at least 1"),
    ],
)
def test_what_cannot_be_set_is_said(assignment, message):
    with pytest.raises(ValueError) as caught:
        override(Outer(), assignment)
    assert str(caught.value) == message


def test_number_too_large_for_a_float_is_refused():
    with pytest.raises(ValueError, match="expected finite float"):
        override(Outer(), "inner.rate=" + "9" * 400)


@pytest.mark.parametrize(("text", "value"), [("sticky", "sticky"), ("none", None), ("detected", "detected")])
def test_texts_that_a_type_lists_are_text(text, value):
    """Recipes know more of them than the optimizer they are for."""

    def listed(blocks: Literal["cosine", "sticky"] | torch.Tensor | None = "cosine"):
        return blocks

    assert override({"a": partial(listed)}, f"a.blocks={text}")["a"]() == value
