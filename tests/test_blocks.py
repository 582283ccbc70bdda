"""How weights are cut into blocks, and what is summed over their rows."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tangential import Blocks, blocks
from tangential.blocks import chunked_row_dots, row_blocks, row_dots


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


def test_spans_leave_out_what_no_block_has():
    assert Blocks(segments=((1, 5, 2),)).spans((7, 3)) == ((1, 3), (3, 5))
    assert Blocks(size=None).spans((0, 3)) == ()


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "with gaps": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x: x[..., :1].expand(x.shape),
    "negated lazily": lambda x: torch._neg_view(-x),
    "conjugated lazily": lambda x: x.conj().resolve_conj().conj(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 3), (7,), (3, 1, 2, 2)])
def test_row_dots_are_the_sums_over_all_other_dimensions(layout, dtype, shape):
    torch.manual_seed(0)
    a, b = (LAYOUTS[layout](torch.randn(shape, dtype=dtype)) for _ in range(2))
    for dim in range(len(shape)):
        expected = (
            (a.to(torch.complex128) * b.to(torch.complex128).conj()).real.movedim(dim, 0).reshape(shape[dim], -1).sum(1)
        )
        found = row_dots(a, b, dim)
        assert found.shape == (shape[dim],) and not found.is_complex() and found.dtype.itemsize >= 4
        assert torch.allclose(found.double(), expected, atol=1e-5)


def test_a_number_is_one_row_and_half_precision_is_summed_in_float32():
    assert row_dots(torch.tensor(2.0), torch.tensor(3.0)).tolist() == [6.0]
    assert row_dots(torch.tensor(1 + 2j), torch.tensor(3 + 1j)).tolist() == [5.0]
    ones = torch.ones(1, 5000, dtype=torch.float16)
    assert row_dots(ones, ones).tolist() == [5000.0]


@pytest.mark.parametrize("shape", [(10, 3), (3, 10), (0, 3), (3, 0), (1, 9), (5,), ()])
def test_chunks_give_the_sums_of_the_whole(shape, monkeypatch):
    monkeypatch.setattr("tangential.blocks.CPU_CHUNK", 6)
    x, y = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    for dim in range(max(1, len(shape))):
        found = chunked_row_dots([x, y], lambda x, y: [(x, y), (x, x + y)], dim)
        assert torch.allclose(found, torch.stack([row_dots(x, y, dim), row_dots(x, x + y, dim)]))
        assert found.shape == (2, shape[dim] if shape else 1)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sampled_from([(), (2,), (2, 3)]))
def test_blocks_are_reduced_run_by_run(lengths, batch):
    x = torch.randn(*batch, sum(lengths), dtype=torch.float64)
    cut = row_blocks(lengths)
    assert torch.allclose(cut.total(x), torch.stack([each.sum(-1) for each in x.split(lengths, -1)], -1))
    assert torch.equal(cut.largest(x), torch.stack([each.amax(-1) for each in x.split(lengths, -1)], -1))
    x[..., 0] = torch.nan
    assert cut.largest(x)[..., 0].isnan().all()


def test_blocks_alone_are_imported_without_torch():
    code = "import sys; sys.modules['torch'] = None; exec(open(sys.argv[1]).read())"
    subprocess.run([sys.executable, "-c", code, blocks.__file__], check=True)
