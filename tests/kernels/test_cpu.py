"""The kernel is the same step as the definition to rounding, whatever the shapes and however many threads help."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from support.step_matrix import BLOCKS, RULES, shapes_for
from support.twins import DENSE, large_for, made, worst_step
from support.weights import run, weights
from tangential import AdamP, Blocks
from tangential.kernels import cpu, plan

pytestmark = pytest.mark.skipif(cpu.library() is None, reason=f"the kernel is not built: {cpu.why_missing()}")


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_the_definition_to_rounding(rule, kind, dtype, layout, kernel_alone):
    optimizer, params = made(rule, kind, dtype, shapes_for(kind), layout)
    # float32 arithmetic, then one rounding to the dtype, or two after a wrong guess
    assert worst_step(optimizer, params, 6) < (20 if dtype == torch.float32 else 1.6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_rows_of_every_length(rule, kind, kernel_alone):
    torch.set_num_threads(2)  # the next test finds the same bits for any other number
    optimizer, params = made(rule, kind, torch.float32, large_for(kind))
    assert worst_step(optimizer, params, 2) < 200  # sums of 70 000 products


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("rule", RULES)
def test_number_of_threads_does_not_change_a_bit(rule, kind):
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        optimizer, params = made(rule, kind, torch.float32, large_for(kind))
        found.append(run(optimizer, params, 3))
    assert all(torch.equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("blocks", ["cosine", Blocks(), Blocks(size=None)])
def test_a_row_of_three_million(rule, blocks):
    cls, hyper = RULES[rule]
    params = weights(torch.float32, [(1, 3_000_000)])
    optimizer = cls(params, blocks=blocks, fused=True, **hyper)
    assert worst_step(optimizer, params, 2) < 2000  # sums of three million products


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_bfloat16_moments_are_taken(name):
    params = weights(torch.bfloat16)
    optimizer = AdamP(params, lr=1e-2, fused=True)
    run(optimizer, params, 1)
    for own in optimizer.state.values():
        for key in ("exp_avg", "exp_avg_sq"):
            own[key] = own[key].bfloat16()
    assert worst_step(optimizer, params, 3) < 3  # moments are rounded too
    assert all(own[name].dtype == torch.bfloat16 for own in optimizer.state.values())


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events:UserWarning")  # of torch 2.10
@pytest.mark.parametrize("backend", [dict(fused=True), dict(foreach=True)])
def test_no_tensor_of_the_size_of_a_weight_is_made(backend):
    params = weights(torch.float32, [(200, 300), (60_000,)])
    optimizer = AdamP(params, **backend)
    run(optimizer, params, 2)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:  # a mode would turn the kernel off
        optimizer.step()
    largest = max(event.cpu_memory_usage for event in seen.events())
    assert (largest < 40) == ("fused" in backend)  # bytes


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("layout", DENSE)
def test_pieces_cover_every_element_once(kind, layout):
    for shape in large_for(kind):
        w = DENSE[layout](torch.empty(shape))
        blocks = BLOCKS[kind] if len(shape) > 1 else None
        form = plan.form(w.shape, w.stride(), getattr(blocks, "dim", 0))
        seen = torch.zeros(w.numel(), dtype=torch.int64)
        for mode, offset, cut in plan.runs(w.shape, form, blocks):
            run_ = plan.Run(
                weight=0,
                group=0,
                storage=0,
                mode=mode,
                offset=offset,
                slabs=cut.slabs,
                stride=form.rows * form.cols,
                rows=cut.rows,
                cols=cut.cols,
            )
            for slab in range(cut.slabs):
                at = offset + slab * run_.stride
                seen[at : at + cut.rows * cut.cols] += 1
            table = plan.Plan([run_])
            count, size = run_.grains
            assert sum(table.pieces[2::3]) == count
            assert count * size >= cut.slabs * cut.rows * cut.cols
            assert table.bounds[-1] == len(table.pieces) // 3 and sorted(table.bounds) == list(table.bounds)
            assert table.sums * 16 <= w.numel() or cut.slabs * cut.cols < plan.SLABS
        assert (seen == 1).all()
