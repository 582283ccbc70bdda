"""State dicts: saved, loaded, refused."""

import copy
import io
import pickle

import pytest
import torch

from support.optimizer_makers import MAKERS, MOMENTS, every, same
from support.weights import run, weights


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("capturable", [False, True])
def test_loaded_state_continues_bit_for_bit(name, dtype, capturable):
    a = weights(dtype)
    first = MAKERS[name](a, capturable=capturable)
    run(first, a, 5)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    b = [p.detach().clone().requires_grad_() for p in a]
    second = MAKERS[name](b, capturable=capturable)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert same(run(first, a, 5), run(second, b, 5))
    assert str(first.state_dict()) == str(second.state_dict())


@every
def test_state_keys_are_torchs(name):
    params = weights()
    optimizer = MAKERS[name](params)
    run(optimizer, params, 1)
    assert all(set(own) == {"step", *MOMENTS[name]} for own in optimizer.state.values())
    assert all(own["step"].dtype == torch.float32 and own["step"].ndim == 0 for own in optimizer.state.values())


@every
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_continue_alike(name, clone):
    params = weights()
    optimizer = MAKERS[name](params)
    run(optimizer, params, 3)
    other = clone(optimizer)
    others = other.param_groups[0]["params"]
    assert same(run(optimizer, params, 3), run(other, others, 3))


@every
def test_state_of_another_optimizer_is_refused_and_nothing_is_loaded(name):
    params = weights()
    other = torch.optim.Adagrad(params)
    run(other, params, 1)
    optimizer = MAKERS[name](params)
    run(optimizer, params, 2)
    before = str(optimizer.state_dict())
    with pytest.raises(ValueError, match="saved by another optimizer"):
        optimizer.load_state_dict(other.state_dict())
    assert str(optimizer.state_dict()) == before


@every
def test_half_precision_moments_are_float32_and_stay_so_when_loaded(name):
    params = weights(torch.bfloat16)
    optimizer = MAKERS[name](params)
    run(optimizer, params, 2)
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    for i, p in enumerate(params):
        for key in MOMENTS[name]:
            assert optimizer.state[p][key].dtype == torch.float32
            assert torch.equal(optimizer.state[p][key], saved["state"][i][key])


@every
def test_older_checkpoint_without_the_newer_keys_loads(name):
    params = weights()
    optimizer = MAKERS[name](params)
    run(optimizer, params, 2)
    saved = optimizer.state_dict()
    for key in ("blocks", "maximize", "foreach", "fused", "capturable", "differentiable"):
        del saved["param_groups"][0][key]
    for own in saved["state"].values():
        own["step"] = int(own["step"])
    optimizer.load_state_dict(saved)
    run(optimizer, params, 1)
    assert optimizer.state[params[0]]["step"] == 3
