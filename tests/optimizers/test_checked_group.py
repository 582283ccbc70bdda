"""Parameters that are exchanged, flattened or resized after construction, and those that have no shape yet."""

import copy
import pickle

import pytest
import torch
from torch import nn

from support.optimizer_makers import MAKERS, every, same
from support.weights import give_gradients, run, weights
from tangential import AdamP, Blocks

BLOCKS = {
    "channel": Blocks(),
    "layer": Blocks(size=None),
    "pairs": Blocks(size=2),
    "inputs": Blocks(dim=1),
    "segments": Blocks(segments=((0, 4, 2),)),
    "cosine": "cosine",
    "sticky": "sticky",
}
backends = pytest.mark.parametrize("backend", [{}, dict(foreach=True), dict(foreach=False)], ids=str)
stepped_before = pytest.mark.parametrize("stepped", [False, True])


def refused(optimizer, params, message):
    """The step raises and moves nothing."""
    for p in params:
        p.grad = torch.ones_like(p)
    before = [p.detach().clone() for p in params]
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            optimizer.step()
    assert same(before, [p.detach() for p in params])


@every
@backends
@stepped_before
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_one_flat_vector_in_the_place_of_all_weights_is_refused(name, blocks, backend, stepped):
    """DeepSpeed's ZeRO and flat-buffer wrappers exchange the parameters of a group."""
    params = weights(shapes=[(8, 6), (4, 2)])
    optimizer = MAKERS[name]([dict(params=params, blocks=blocks)], **backend)
    run(optimizer, params, int(stepped))
    flat = torch.cat([p.detach().reshape(-1) for p in params]).requires_grad_()
    optimizer.param_groups[0]["params"] = [flat]
    refused(optimizer, [flat], r"parameter 0 had shape \((8, 6|4, 2)\).*\(56,\)")


@every
@backends
@stepped_before
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_weights_flattened_in_place_are_refused(name, blocks, backend, stepped):
    """What FSDP does with `use_orig_params=True`: the same objects, with views of a flat buffer as their data."""
    params = weights(shapes=[(5,), (8, 6)])
    groups = [dict(params=[("bias", params[0])], blocks=None), dict(params=[("w", params[1])], blocks=blocks)]
    optimizer = MAKERS[name](groups, **backend)
    run(optimizer, params, int(stepped))
    params[1].grad = None
    params[1].data = params[1].data.flatten()
    refused(optimizer, params, r"'w' had shape \(8, 6\) when it was checked and has \(48,\) now")


@every
@backends
def test_without_blocks_flat_vectors_step_as_before(name, backend):
    a, b = weights(shapes=[(8, 6)]), weights(shapes=[(8, 6)])
    whole, flat = MAKERS[name](a, blocks=None, **backend), MAKERS[name](b, blocks=None, **backend)
    b[0].data = b[0].data.flatten()
    for step in range(3):
        give_gradients(a, step)
        b[0].grad = a[0].grad.flatten()
        whole.step()
        flat.step()
    assert torch.equal(a[0].flatten(), b[0])


@every
@pytest.mark.parametrize(("blocks", "shape"), [(Blocks(size=None), (3, 6)), (Blocks(segments=((0, 2, 1),)), (3, 6))])
def test_shards_of_rows_are_refused_where_a_block_needs_them_all(name, blocks, shape):
    params = weights(shapes=[(8, 6)])
    optimizer = MAKERS[name](params, blocks=blocks)
    params[0].data = params[0].data[: shape[0]].clone()
    refused(optimizer, params, r"had shape \(8, 6\)")


@every
@backends
def test_weights_that_gain_rows_step_on_with_their_state_where_rows_are_blocks(name, backend):
    """Gaussian splatting and growing embeddings replace a parameter and its state by larger ones."""
    small, large = weights(shapes=[(4, 6)]), weights(shapes=[(7, 6)])
    optimizer = MAKERS[name](small, blocks=Blocks(), **backend)
    run(optimizer, small, 2)
    own = optimizer.state.pop(small[0])
    grown = {k: torch.cat([v, v[:3]]) if v.ndim else v for k, v in own.items()}
    optimizer.param_groups[0]["params"] = large
    optimizer.state[large[0]] = grown
    run(optimizer, large, 1)
    assert optimizer.state[large[0]]["step"] == 3


@every
@pytest.mark.parametrize("blocks", [Blocks(), Blocks(dim=1)])
@backends
def test_state_of_another_shape_is_refused_by_name(name, blocks, backend):
    params = weights(shapes=[(5, 4)])
    optimizer = MAKERS[name]([("table", params[0])], blocks=blocks, **backend)
    run(optimizer, params, 1)
    params[0].grad = None
    params[0].data = torch.randn(*((8, 4) if blocks.dim == 0 else (5, 8)), dtype=torch.float64)
    refused(optimizer, params, r"'table' has shape .*\(5, 4\).*resized")


@every
@backends
@pytest.mark.parametrize("blocks", ["cosine", None])
def test_state_of_another_shape_is_refused_under_the_papers_test_too(name, blocks, backend):
    params = weights(torch.float32, shapes=[(5, 4), (3, 2)])
    optimizer = MAKERS[name](params, blocks=blocks, **backend)
    run(optimizer, params, 1)
    params[0].grad = None
    params[0].data = torch.randn(8, 4)
    refused(optimizer, params, r"shape \(8, 4\) has a moment of shape \(5, 4\).*del optimizer.state")
    del optimizer.state[params[0]]
    run(optimizer, params, 1)


@every
@backends
def test_a_gradient_of_another_shape_is_refused(name, backend):
    params = weights(torch.float32, shapes=[(3, 2), (5, 4)])
    optimizer = MAKERS[name](params, **backend)
    run(optimizer, params, 1)
    optimizer.state.clear()
    params[1].data = torch.randn(8, 4)
    before = params[0].detach().clone()
    with pytest.raises(ValueError, match=r"shape \(8, 4\) has a gradient of shape \(5, 4\)"):
        optimizer.step()
    assert torch.equal(before, params[0])


ONE_ELEMENT = [
    (Blocks(), (5,)),
    (Blocks(), (5, 1)),
    (Blocks(dim=1), (1, 5, 1)),
    (Blocks(size=None), (1,)),
    (Blocks(size=None), (1, 1)),
    (Blocks(segments=((0, 4, 2), (4, 5, 1))), (5,)),
]


@every
@pytest.mark.parametrize(("blocks", "shape"), ONE_ELEMENT)
def test_blocks_of_one_element_are_refused(name, blocks, shape):
    message = "blocks of one element.*blocks=None"
    with pytest.raises(ValueError, match=message):
        MAKERS[name](weights(shapes=[shape]), blocks=blocks)
    params = weights(shapes=[shape])
    optimizer = MAKERS[name](params, blocks=None)
    optimizer.param_groups[0]["blocks"] = blocks
    refused(optimizer, params, message)


@every
@pytest.mark.parametrize("old", [Blocks(), Blocks(size=2), "cosine", None])
@pytest.mark.parametrize("new", [Blocks(dim=5), Blocks(size=7), Blocks(segments=((0, 9, 1),))])
def test_blocks_that_are_exchanged_are_checked(name, old, new):
    params = weights(shapes=[(4, 6)])
    optimizer = MAKERS[name](params, blocks=old)
    run(optimizer, params, 1)
    optimizer.param_groups[0]["blocks"] = new
    refused(optimizer, params, "parameter 0: Blocks")
    optimizer.param_groups[0]["blocks"] = Blocks(size=None)
    run(optimizer, params, 1)


@every
def test_larger_blocks_of_vectors_are_taken(name):
    params = weights(shapes=[(6,)])
    run(MAKERS[name](params, blocks=Blocks(size=2)), params, 2)
    params = weights(shapes=[(0,), (0, 1)])
    run(MAKERS[name](params, blocks=Blocks()), params, 2)


@every
@backends
def test_parameters_that_are_appended_later_are_checked(name, backend):
    params = weights(shapes=[(4, 3), (5, 2), (3,)])
    optimizer = MAKERS[name](params[:1], blocks=Blocks(), **backend)
    run(optimizer, params[:1], 1)
    optimizer.param_groups[0]["params"].append(params[1])
    run(optimizer, params[:2], 1)
    optimizer.param_groups[0]["params"].append(params[2])
    refused(optimizer, params, "parameter 2 of shape .*one element")


@every
def test_removed_parameters_do_not_shift_the_check(name):
    params = weights(shapes=[(4, 3), (4,), (5, 2)])
    optimizer = MAKERS[name](params)
    run(optimizer, params, 1)
    del optimizer.param_groups[0]["params"][0]
    run(optimizer, params[1:], 1)


@every
def test_flat_parameters_that_take_a_place_are_refused(name):
    params = weights(shapes=[(4, 3)])
    optimizer = MAKERS[name](params)
    shard = torch.ones(12, dtype=torch.float64).requires_grad_()
    shard._fsdp_flattened = True  # as FullyShardedDataParallel marks them
    optimizer.param_groups[0]["params"] = [shard]
    shard.grad = torch.ones(12, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"flat parameter.*fully_shard"):
        optimizer.step()


@every
@pytest.mark.parametrize("again", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_are_checked_as_well(name, again):
    optimizer = again(MAKERS[name](weights(shapes=[(8, 6)]), blocks=Blocks()))
    w = optimizer.param_groups[0]["params"][0]
    w.data = w.data.flatten()
    refused(optimizer, [w], "one element")


@every
def test_what_was_checked_is_remembered_over_a_load(name):
    params = weights(shapes=[(8, 6)])
    optimizer = MAKERS[name](params, blocks=Blocks(size=None))
    optimizer.load_state_dict(optimizer.state_dict())
    params[0].data = params[0].data.flatten()
    refused(optimizer, params, r"had shape \(8, 6\)")


def lazy():
    torch.manual_seed(0)
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 2))


@every
@pytest.mark.parametrize("blocks", ["cosine", "sticky", None])
@pytest.mark.parametrize("fused", [None, False])
def test_lazy_parameters_step_from_their_first_batch_on(name, blocks, fused):
    model, x = lazy(), torch.randn(5, 3)
    optimizer = MAKERS[name](model.parameters(), blocks=blocks, fused=fused)
    first = optimizer.backend
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    assert optimizer.backend == first
    assert all(optimizer.state[p]["step"] == 2 for p in model.parameters())


@every
def test_lazy_parameters_are_checked_once_they_have_a_shape(name):
    model = lazy()
    optimizer = MAKERS[name]([dict(params=[model[0].weight], blocks=Blocks(dim=3))])
    assert optimizer.backend == ""
    model(torch.randn(5, 3)).sum().backward()
    before = model[0].weight.detach().clone()
    with pytest.raises(ValueError, match="cuts dimension 3"):
        optimizer.step()
    assert torch.equal(before, model[0].weight)


@every
def test_state_of_parameters_without_a_shape_is_refused(name):
    model = lazy()
    optimizer = MAKERS[name](model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"not initialised.*run one batch"):
        MAKERS[name](lazy().parameters()).load_state_dict(optimizer.state_dict())


def test_groups_that_are_gone_are_not_kept_alive():
    params = weights(shapes=[(4, 3), (5, 2)])
    optimizer = AdamP([dict(params=params[:1]), dict(params=params[1:])])
    del optimizer.param_groups[1]
    optimizer.load_state_dict(optimizer.state_dict())
    run(optimizer, params[:1], 1)
    assert len(optimizer._checked) == 1
