"""Settings of groups: the values and keys that are taken, and the check of what is written into a group later."""

import io
from collections import UserList, deque
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from support.optimizer_makers import MAKERS, every, same
from support.weights import run, weights
from tangential import SGDP, AdamP, Blocks

PAIRS = {
    "tuple": (0.5, 0.75),
    "list": [0.5, 0.75],
    "UserList": UserList([0.5, 0.75]),
    "deque": deque([0.5, 0.75]),
    "array": np.array([0.5, 0.75]),
    "numpy scalars": (np.float32(0.5), np.float64(0.75)),
    "tensor": torch.tensor([0.5, 0.75]),
    "tensors": (torch.tensor(0.5), torch.tensor([0.75])),
}
NUMBERS = {
    "int": 1,
    "float": 0.25,
    "float32": np.float32(0.25),
    "float64": np.float64(0.25),
    "float16": np.float16(0.25),
    "int64": np.int64(1),
    "0-d array": np.array(0.25),
    "array of one": np.array([0.25]),
    "fraction": Fraction(1, 4),
    "0-d tensor": torch.tensor(0.25),
    "tensor of one": torch.tensor([0.25]),
    "tensor of ones": torch.tensor([[0.25]]),
    "float64 tensor": torch.tensor(0.25, dtype=torch.float64),
}


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("given", PAIRS.values(), ids=PAIRS)
def test_betas_are_any_two_numbers(given, foreach):
    a, b = weights(torch.float32), weights(torch.float32)
    ours = AdamP(a, lr=0.01, betas=given, foreach=foreach)
    assert same(run(ours, a, 3), run(AdamP(b, lr=0.01, betas=(0.5, 0.75), foreach=foreach), b, 3))
    assert ours.defaults["betas"] == (0.5, 0.75)


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay", "delta", "wd_ratio", "momentum", "dampening"])
@pytest.mark.parametrize("given", NUMBERS.values(), ids=NUMBERS)
def test_settings_are_anything_that_behaves_like_one_number(name, given):
    value = float(given.item() if hasattr(given, "item") else given)
    if name == "momentum" and value == 1:
        pytest.skip("momentum is below 1")
    common = dict(momentum=0.5, weight_decay=0.1, lr=0.125)
    a, b = weights(torch.float32), weights(torch.float32)
    ours, theirs = SGDP(a, **{**common, name: given}), SGDP(b, **{**common, name: value})
    for x, y in zip(run(ours, a, 3), run(theirs, b, 3), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-7)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    ours.load_state_dict(torch.load(file))
    assert float(ours.param_groups[0][name]) == value


def test_a_filled_tensor_is_read_at_every_step():
    decay, beta = torch.tensor(0.1), torch.tensor(0.5)
    a, b = weights(), weights()
    ours = AdamP(a, lr=0.125, weight_decay=decay, betas=(beta, 0.75))
    theirs = AdamP(b, lr=0.125, weight_decay=0.1, betas=(0.5, 0.75))
    run(ours, a, 1)
    run(theirs, b, 1)
    decay.fill_(0.5)
    beta.fill_(0.25)
    theirs.param_groups[0].update(weight_decay=0.5, betas=(0.25, 0.75))
    for x, y in zip(run(ours, a, 2), run(theirs, b, 2), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-7)
    beta.fill_(1.5)
    with pytest.raises(ValueError, match=r"betas=1.5"):
        ours.step()


BAD_LATER = [
    ("lr", -1.0, ValueError),
    ("lr", float("nan"), ValueError),
    ("lr", float("inf"), ValueError),
    ("lr", 10**400, ValueError),
    ("lr", "0.1", TypeError),
    ("lr", None, TypeError),
    ("lr", 1j, TypeError),
    ("lr", torch.ones(2), ValueError),
    ("lr", torch.tensor(-1.0), ValueError),
    ("lr", torch.tensor(1j), TypeError),
    ("weight_decay", -0.1, ValueError),
    ("weight_decay", np.float32("nan"), ValueError),
    ("weight_decay", torch.ones(3), ValueError),
    ("weight_decay", torch.empty((), device="meta"), TypeError),
    ("eps", True, TypeError),
    ("delta", -1, ValueError),
    ("wd_ratio", 7, ValueError),
    ("nesterov", 1, TypeError),
    ("maximize", "yes", TypeError),
    ("foreach", "yes", TypeError),
    ("fused", 2, TypeError),
    ("blocks", "cosin", ValueError),
    ("blocks", "Cosine", ValueError),
    ("blocks", True, TypeError),
    ("blocks", ["cosine"], TypeError),
    ("blocks", Blocks, TypeError),
    ("blocks", Blocks(dim=5), ValueError),
    ("blocks", Blocks(size=4), ValueError),
    ("blocks", (0, 4, None), ValueError),
]


@every
@pytest.mark.parametrize(("key", "value", "error"), BAD_LATER)
def test_bad_settings_are_refused_whenever_they_come_and_nothing_moves(name, key, value, error):
    shapes = [(6, 5), (3, 2)]
    with pytest.raises(error, match=key if key != "blocks" else "blocks|Blocks"):
        MAKERS[name](weights(shapes=shapes), **{key: value})
    params = weights(shapes=shapes)
    optimizer = MAKERS[name]([dict(params=params[:1]), dict(params=params[1:])])
    run(optimizer, params, 2)
    optimizer.param_groups[1][key] = value
    before = [p.detach().clone() for p in params]
    steps = [float(optimizer.state[p]["step"]) for p in params]
    with pytest.raises(error, match=key if key != "blocks" else "blocks|Blocks"):
        optimizer.step()
    assert same(before, [p.detach() for p in params])
    assert steps == [float(optimizer.state[p]["step"]) for p in params]


@pytest.mark.parametrize("value", [1.0, 1.5, -0.1, torch.tensor(1.0), np.float32(1)])
def test_schedules_may_not_bring_momentum_to_one(value):
    w = weights(shapes=[(3, 2)])
    optimizer = SGDP(w, lr=0.1, momentum=0.9)
    run(optimizer, w, 1)
    optimizer.param_groups[0]["momentum"] = value
    with pytest.raises(ValueError, match=r"momentum=.*must be in \[0, 1\)"):
        optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.99
    run(optimizer, w, 1)


@pytest.mark.parametrize("value", [(1.0, 0.9), (0.9, 1.0), (0.9, -0.1), (float("nan"), 0.9), [2, 0]])
def test_betas_out_of_range_are_refused_at_the_step(value):
    w = weights(shapes=[(3, 2)])
    optimizer = AdamP(w)
    optimizer.param_groups[0]["betas"] = value
    with pytest.raises(ValueError, match=r"betas=.*two numbers in \[0, 1\)"):
        run(optimizer, w, 1)


@pytest.mark.parametrize("value", [0.9, (0.9,), (0.9, 0.99, 0.999), "ab", b"ab", {0.9: 1, 0.99: 2}, {0.9, 0.99}, None])
def test_betas_of_another_kind_are_refused(value):
    with pytest.raises(TypeError, match="must be two numbers"):
        AdamP(weights(), betas=value)


@every
def test_defaults_are_checked_before_groups_and_beside_their_own_settings(name):
    for params in ([dict(params=weights(), lr=1e-3)], [], None, nn.Linear(2, 2)):
        with pytest.raises(ValueError if params and not isinstance(params, nn.Module) else (TypeError, ValueError)):
            MAKERS[name](params, lr=-1.0)
    with pytest.raises(ValueError, match="wd_ratio=2"):
        MAKERS[name]([dict(params=weights(), wd_ratio=0.5)], wd_ratio=2)


@every
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (None, TypeError, r"model\.parameters\(\)"),
        (nn.Linear(2, 2), TypeError, r"Linear.*model\.parameters\(\)"),
        (nn.Sequential(nn.Linear(2, 2)), TypeError, r"model\.parameters\(\)"),
        (nn.Linear(2, 2).state_dict(), TypeError, r"model\.parameters\(\)"),
        ("weight", TypeError, r"model\.parameters\(\)"),
        (torch.ones(3), TypeError, "iterable"),
        (3, TypeError, "iterable"),
        ([], ValueError, "empty parameter list"),
        ([3], TypeError, "can only optimize Tensors"),
        ([dict(lr=0.1)], TypeError, "'params'"),
        ([dict(params=None)], TypeError, "NoneType"),
    ],
)
def test_what_is_no_parameters_is_refused_in_words(name, params, error, message):
    with pytest.raises(error, match=message):
        MAKERS[name](params)


@every
def test_lists_of_parameters_are_parameters(name):
    MAKERS[name](nn.ParameterList([torch.ones(2, 2), torch.ones(2)]))
    MAKERS[name](weights()[0] for _ in range(1))
    MAKERS[name](dict(w=nn.Parameter(torch.ones(2))).items())


UNKNOWN = [
    "block",
    "Blocks",
    "blockss",
    "weight_decays",
    "wd_ration",
    "nestorov",
    "learning_rate",
    "lrs",
    "amsgrad_",
    "foo",
]


@every
@pytest.mark.parametrize("key", [*UNKNOWN, "trust_coefficient", "rectify", 3])
def test_unknown_keys_of_groups_are_refused(name, key):
    with pytest.raises(TypeError, match="no such setting"):
        MAKERS[name]([{"params": weights(), key: None}])
    optimizer = MAKERS[name](weights())
    with pytest.raises(TypeError, match="no such setting"):
        optimizer.add_param_group({"params": weights(), key: None})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("wrong", "right"), [("block", "blocks"), ("weightdecay", "weight_decay"), ("wd_rati", "wd_ratio")]
)
def test_misspelt_keys_are_told_the_right_one(wrong, right):
    with pytest.raises(TypeError, match=f"did you mean '{right}'"):
        AdamP([{"params": weights(), wrong: None}])


OTHERS = {
    "adamp": {
        "AdamW": (torch.optim.AdamW, {}, None),
        "AdamW, amsgrad": (torch.optim.AdamW, dict(amsgrad=True), "amsgrad=True.* keeps no maximum"),
        "Adam": (torch.optim.Adam, {}, None),
        "Adam, decayed": (torch.optim.Adam, dict(weight_decay=0.1), "decoupled_weight_decay=False.* always decoupled"),
        "SGD": (torch.optim.SGD, {}, None),
        "SGD, momentum": (torch.optim.SGD, dict(momentum=0.9), r"momentum=0\.9.* its momentum is betas\[0\]"),
        "NAdam": (torch.optim.NAdam, {}, "momentum_decay=0.004.*NAdam"),
        "RAdam": (torch.optim.RAdam, {}, None),
        "RMSprop": (torch.optim.RMSprop, {}, "alpha=0.99.* RMSprop's"),
        "Adagrad": (torch.optim.Adagrad, {}, "Adagrad's"),
    },
    "sgdp": {
        "AdamW": (torch.optim.AdamW, {}, r"betas=\(0.9, 0.999\).* its one decay rate is momentum"),
        "SGD": (torch.optim.SGD, dict(momentum=0.9, nesterov=True), None),
        "RMSprop": (torch.optim.RMSprop, {}, "RMSprop's"),
        "Muon": (torch.optim.Muon, {}, "Muon's"),
    },
}


@pytest.mark.parametrize(("name", "other"), [(name, other) for name, others in OTHERS.items() for other in others])
def test_dicts_that_torch_wrote_its_defaults_into_are_taken_where_these_change_nothing(name, other):
    cls, settings, message = OTHERS[name][other]
    params = weights(shapes=[(3, 2), (4, 2)])
    groups = [dict(params=[params[0]], blocks=None), dict(params=[params[1]])]
    outer = cls(groups, **settings)
    assert len(outer.param_groups[0]) > 3 and outer.param_groups[0] is groups[0]  # written into ours
    if message:
        with pytest.raises(TypeError, match=f"{message}.*give each optimizer its own"):
            MAKERS[name](groups)
    else:
        assert [group["blocks"] for group in MAKERS[name](groups).param_groups] == [None, "cosine"]
    MAKERS[name]([dict(params=group["params"], blocks=None) for group in groups])  # the way out


@every
@pytest.mark.parametrize("value", [torch.ones(2), torch.tensor(True), "False", [], float("nan")])
def test_foreign_settings_of_any_type_are_refused_in_words(name, value):
    for key in ("amsgrad", "dampening" if name == "adamp" else "clipping_threshold", "step", "fixed_decay"):
        with pytest.raises(TypeError, match=f"{key}=.*no such setting"):
            MAKERS[name]([{"params": weights(), key: value}])


def test_settings_of_the_other_rule_are_unknown():
    with pytest.raises(TypeError, match="SGDP has no such setting"):
        SGDP([dict(params=weights(), betas=(0.9, 0.99))])
    with pytest.raises(TypeError, match="AdamP has no such setting"):
        AdamP([dict(params=weights(), momentum=0.9)])
    with pytest.raises(TypeError, match="amsgrad"):
        AdamP([dict(params=weights(), amsgrad=True)])


ANNOTATIONS = dict(
    initial_lr=0.1,
    max_lr=0.2,
    min_lr=0.0,
    base_momentum=0.8,
    max_momentum=0.9,
    swa_lr=0.1,
    name="backbone",
    lr_scale=0.75,
    lr_mult=2.0,
    wd_mult=0.0,
    group_name="layer_0_decay",
    param_names=["a", "b"],
    layer_id=3,
    rho=0.05,
    adaptive=False,
    amsgrad=False,
    decoupled_weight_decay=True,
    _note="mine",
)


@every
@pytest.mark.parametrize("key", ANNOTATIONS)
def test_keys_of_schedulers_trainers_and_wrappers_are_kept(name, key):
    params = weights(shapes=[(3, 2), (4, 2)])
    optimizer = MAKERS[name]([{"params": params, key: ANNOTATIONS[key]}])
    run(optimizer, params, 1)
    saved = optimizer.state_dict()
    again = MAKERS[name](weights(shapes=[(3, 2), (4, 2)]))
    again.load_state_dict(saved)
    assert again.param_groups[0][key] == ANNOTATIONS[key]


@every
def test_groups_of_another_optimizer_can_be_given_where_they_mean_the_same(name):
    """What wrappers such as SAM do: they hold the groups, and construct the optimizer around them."""
    params = weights(shapes=[(3, 2)])
    outer = torch.optim.AdamW(params, lr=0.1) if name == "adamp" else torch.optim.SGD(params, lr=0.1, momentum=0.9)
    lr_scheduler.StepLR(outer, 3)
    inner = MAKERS[name](outer.param_groups)
    assert inner.param_groups[0] is outer.param_groups[0]
    run(inner, params, 1)


@every
@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning", "ignore:.*epoch parameter:UserWarning")
def test_schedulers_write_settings_and_keys_and_steps_go_on(name):
    w = weights(shapes=[(4, 3)])
    optimizer = MAKERS[name](w)
    schedules = [
        lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=30),
        lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
        torch.optim.swa_utils.SWALR(optimizer, 0.05),
    ]
    for schedule in schedules:
        for _ in range(5):
            run(optimizer, w, 1)
            schedule.step()
    assert torch.isfinite(w[0]).all()


@every
def test_a_parameter_twice_in_a_group_is_refused(name):
    w, v = weights(shapes=[(2, 3), (2, 3)])
    for params in ([w, v, w], [("a", w), ("b", w)], iter([w, w])):
        with pytest.raises(ValueError, match="came twice"):
            MAKERS[name](params)
    optimizer = MAKERS[name]([w])
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group(dict(params=[w]))
    optimizer.param_groups[0]["params"].append(w)
    with pytest.raises(ValueError, match="came twice"):
        run(optimizer, [w], 1)
