"""How weights are cut into blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tangential import Blocks


@given(st.integers(1, 8), st.integers(1, 8))
def test_runs_cover_every_row_once(size, count):
    runs = Blocks(size=size).runs((size * count, 3))
    assert sum(length for length, _ in runs) == size * count
    assert all(invariant for _, invariant in runs)


def test_rows_outside_segments_are_variant():
    fused = Blocks(segments=((0, 8, 4), (8, 16, 4)))
    assert fused.runs((24, 5)) == ((4, True),) * 4 + ((1, False),) * 8


def test_interleaved_heads_are_segments():
    interleaved = Blocks(segments=((0, 2, 2), (2, 4, 2), (6, 8, 2), (8, 10, 2)))
    assert [yes for _, yes in interleaved.runs((12, 3))] == [True, True, False, False, True, True, False, False]


def test_whole_weight_is_one_block():
    assert Blocks(size=None).runs((6, 2)) == ((6, True),)


def test_transposed_convolution_is_cut_along_its_second_dimension():
    assert Blocks(dim=1).runs((3, 8, 3, 3)) == ((1, True),) * 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(dim=-1), "dim=-1 must be at least 0"),
        (dict(size=0), "size=0 must be at least 1"),
        (dict(segments=()), "use None"),
        (dict(segments=((0, 5, 2),)), "whole number of blocks"),
        (dict(segments=((4, 8, 2), (0, 4, 2))), "must start at 8"),
        (dict(size=2, segments=((0, 4, 2),)), "beside segments"),
    ],
)
def test_impossible_cuts_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Blocks(**settings)


@pytest.mark.parametrize(
    "settings", [dict(dim=0.5), dict(size="8"), dict(size=True), dict(segments=(1, 2)), dict(dim=None)]
)
def test_wrong_types_are_refused(settings):
    with pytest.raises(TypeError, match="must be"):
        Blocks(**settings)


@pytest.mark.parametrize(
    ("blocks", "shape"),
    [(Blocks(dim=2), (3, 4)), (Blocks(size=4), (6, 2)), (Blocks(segments=((0, 8, 2),)), (6, 2)), (Blocks(), ())],
)
def test_weights_that_do_not_fit_are_refused(blocks, shape):
    with pytest.raises(ValueError, match=r"shape|dimension"):
        blocks.runs(shape)


def test_segments_given_as_lists_are_hashable():
    assert hash(Blocks(segments=[[0, 4, 2]])) == hash(Blocks(segments=((0, 4, 2),)))
