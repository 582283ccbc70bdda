"""Transformer-XL: its memory, its relative positions, its adaptive softmax, and what weight normalisation does."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tangential import AdamP, Blocks, find_invariances
from tangential.experiments.nets.adaptive_softmax import AdaptiveSoftmax
from tangential.experiments.nets.relative_attention import RelativeAttention, by_key, waves
from tangential.experiments.nets.transformer_xl import transformer_xl

WORDS = 13
SMALL = {"layers": 3, "width": 16, "heads": 2, "head_width": 6, "inner": 24, "dropout": 0.0}
FAR = {"memory": 64, "test_memory": 64, "same_length": False, "clamp": None}


def made(dtype=torch.float64, **changes):
    torch.manual_seed(0)
    net = transformer_xl(vocabulary=WORDS, **{**SMALL, **FAR, **changes})
    with torch.no_grad():  # weights as large as trained ones, so that every part matters
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return net.to(dtype)


def texts(length=24, batch=3):
    return torch.randint(WORDS, (batch, length), generator=torch.Generator().manual_seed(1))


def read(net, tokens, lengths):
    """The log-probabilities after each token, read in segments of these lengths."""
    memory, found = None, []
    for part in tokens.split(lengths, dim=1):
        states, memory = net.body(part, memory)
        found.append(net.head.log_probabilities(states))
    return torch.cat(found, dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("weight_normalised", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("changes", [{}, {"clamp": 5}, {"cutoffs": (4, 9)}])
def test_memory_equals_the_same_model_without_segments(changes, dtype, tolerance, training, weight_normalised):
    net = made(dtype, weight_normalised=weight_normalised, **changes).train(training)
    tokens = texts()
    whole = read(net, tokens, [24])
    for lengths in ([8, 8, 8], [1] * 24, [5, 12, 7]):
        assert torch.allclose(read(net, tokens, lengths), whole, rtol=0, atol=tolerance)


def test_memory_that_is_too_short_is_felt_and_evaluation_has_its_own_length():
    net = made(memory=2, test_memory=64)
    tokens = texts()
    whole = read(net, tokens, [24])
    assert not torch.allclose(read(net.train(), tokens, [8, 8, 8]), whole, atol=1e-3)
    assert torch.allclose(read(net.eval(), tokens, [8, 8, 8]), whole, atol=1e-13)
    assert [net.train(mode).body(tokens)[1].shape[2] for mode in (True, False)] == [2, 24]


def test_future_tokens_have_no_influence():
    net = made()
    tokens = texts()
    before = read(net, tokens, [24])
    for place in (0, 10, 23):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % WORDS
        for lengths in ([24], [8, 8, 8]):
            changed = (read(net, other, lengths) - before).abs().amax(dim=(0, 2)) > 1e-12
            assert changed.tolist() == [at >= place for at in range(24)]


def test_texts_of_a_batch_do_not_mix():
    net = made()
    tokens = texts()
    alone = [read(net, each[None], [8, 8, 8]) for each in tokens]
    assert torch.allclose(read(net, tokens, [8, 8, 8]), torch.cat(alone), atol=1e-13)


@pytest.mark.parametrize("lengths", [[12], [4, 4, 4], [1] * 12])
def test_same_length_lets_every_token_look_back_equally_far_in_evaluation(lengths):
    net = made(layers=1, test_memory=4, same_length=True).eval()
    tokens = texts(12)
    before = read(net, tokens, lengths)
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % WORDS
    changed = (read(net, other, lengths) - before).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.nonzero().flatten().tolist() == [5, 6, 7, 8]


def test_clamped_distances_are_not_told_apart():
    tokens = texts()
    turned = torch.cat([tokens[:, :20].flip(1), tokens[:, 20:]], dim=1)
    for clamp, alike in ((4, True), (5, False), (None, False)):
        net = made(layers=1, clamp=clamp)
        last, other = (read(net, each, [24])[:, -1] for each in (tokens, turned))
        assert torch.allclose(last, other, atol=1e-12) is alike, clamp


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 5), (4, 4), (3, 7)])
def test_shift_puts_every_score_at_its_key(queries, keys):
    scores = torch.randn(2, 3, queries, keys)
    shifted = by_key(scores)
    for query in range(queries):
        for key in range(keys - queries + query + 1):
            distance = keys - queries + query - key
            assert torch.equal(shifted[..., query, key], scores[..., query, keys - 1 - distance])


@torch.no_grad()
def test_attention_is_the_sum_of_the_papers_four_terms():
    attention = RelativeAttention(width=8, heads=2, head_width=3, dropout=0.0).double()
    seen = torch.randn(1, 7, 8, dtype=torch.float64)
    biases = torch.randn(2, 2, 3, dtype=torch.float64)
    back = torch.arange(6, -1, -1)
    hidden = back - torch.arange(3, -1, -1)[:, None] < 0
    found = attention(seen[:, 3:], seen, waves(back.double(), 8), biases, hidden)
    query, key, value = (part.view(2, 3, 8) for part in attention.qkv.weight.chunk(3))
    distances = attention.distance.weight.view(2, 3, 8)
    u, v = biases
    for place in range(3, 7):
        heads = []
        for head in range(2):
            q = query[head] @ seen[0, place]
            scores = []
            for other in range(place + 1):
                k = key[head] @ seen[0, other]
                r = distances[head] @ waves(torch.tensor([place - other], dtype=torch.float64), 8)[0]
                scores.append((q @ k + q @ r + u[head] @ k + v[head] @ r) / 3**0.5)
            heads.append(torch.stack(scores).softmax(0) @ (seen[0, : place + 1] @ value[head].T))
        assert torch.allclose(attention.out(torch.cat(heads)), found[0, place - 3], atol=1e-12)


def test_memory_carries_no_gradient():
    net = made()
    tokens = texts()
    net(tokens[:, :8], tokens[:, 1:9], True, False).sum().backward()
    net.zero_grad()
    net(tokens[:, 8:16], tokens[:, 9:17], False, False).sum().backward()
    alone = [parameter.grad.clone() for parameter in net.parameters()]
    _, memory = net.body(tokens[:, :8])
    assert not memory.requires_grad
    net.zero_grad()
    states, _ = net.body(tokens[:, 8:16], memory.clone())
    net.head(states, tokens[:, 9:17]).sum().backward()
    assert all(torch.allclose(each.grad, grad, atol=1e-13) for each, grad in zip(net.parameters(), alone, strict=True))


def segments(tokens, length=8):
    """Arguments of the model, segment after segment."""
    count = (tokens.shape[1] - 1) // length
    for number in range(count):
        begin = number * length
        here, there = tokens[:, begin : begin + length], tokens[:, begin + 1 : begin + length + 1]
        yield here, there, number == 0, number == count - 1


def test_model_carries_its_memory_from_the_first_segment_to_the_last():
    net = made()
    tokens = texts(25)
    found = torch.cat([net(*each) for each in segments(tokens)], dim=1)
    assert torch.allclose(found, net(tokens[:, :-1], tokens[:, 1:]), atol=1e-13)
    assert net.state_dict()["_extra_state"].numel() == 0  # nothing is left when the text ends
    again = torch.cat([net(*each) for each in segments(tokens)], dim=1)
    assert torch.equal(found, again)


def test_evaluation_leaves_the_memory_of_the_training_alone():
    net, other = made(), made()
    tokens = texts(25)
    for number, each in enumerate(segments(tokens)):
        found = net.train()(*each)
        if number < 2:
            list(map(lambda args: net.eval()(*args), segments(texts(17, batch=5))))
        assert torch.equal(found, other(*each))


def test_segment_that_follows_nothing_or_something_else_is_refused():
    net = made()
    tokens = texts()
    with pytest.raises(ValueError, match="begin with first=True"):
        net(tokens, tokens, False, False)
    net(tokens, tokens, True, False)
    with pytest.raises(ValueError, match="begin with first=True"):
        net.eval()(tokens, tokens, False, False)
    with pytest.raises(ValueError, match="2 segments follow 3; begin anew"):
        net.train()(tokens[:2], tokens[:2], False, False)


def test_run_that_is_stopped_within_a_text_goes_on_with_the_same_bits(tmp_path):
    def steps(net, optimizer, parts):
        for each in parts:
            optimizer.zero_grad()
            net(*each).mean().backward()
            optimizer.step()

    def start():
        torch.manual_seed(0)
        net = transformer_xl(vocabulary=WORDS, **SMALL | {"dropout": 0.2}, memory=6, weight_normalised=True)
        return net, AdamP(net.parameters(), lr=1e-2)

    parts = list(segments(texts(49)))
    net, optimizer = start()
    steps(net, optimizer, parts[:3])
    random = torch.get_rng_state()
    torch.save([net.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    steps(net, optimizer, parts[3:])
    resumed, its_optimizer = start()
    model_state, optimizer_state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert model_state["_extra_state"].shape == (3, 3, 6, 16)
    resumed.load_state_dict(model_state)
    its_optimizer.load_state_dict(optimizer_state)
    torch.set_rng_state(random)
    steps(resumed, its_optimizer, parts[3:])
    for key, value in net.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_copy_has_a_memory_of_its_own():
    net = made()
    tokens = texts()
    net(tokens, tokens, True, False)
    twin = copy.deepcopy(net)
    twin(tokens, tokens, True, True)
    net(tokens, tokens, False, True)


def head(cutoffs, words=WORDS):
    torch.manual_seed(0)
    made = AdaptiveSoftmax(width=8, words=words, cutoffs=cutoffs).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made, torch.randn(4, 20, 8, dtype=torch.float64), torch.randint(words, (4, 20))


CUTOFFS = [(), (1,), (5,), (12,), (3, 4, 9)]


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_adaptive_probabilities_add_up_to_one_and_are_what_the_loss_takes(cutoffs):
    softmax, states, targets = head(cutoffs)
    found = softmax.log_probabilities(states)
    assert found.shape == (4, 20, WORDS)
    assert torch.allclose(found.exp().sum(-1), torch.ones(4, 20, dtype=torch.float64))
    assert torch.allclose(softmax(states, targets), -found.gather(-1, targets[..., None])[..., 0])


def test_without_cutoffs_it_is_the_full_softmax():
    softmax, states, targets = head(())
    logits = states @ softmax.weight.T + softmax.bias
    assert torch.allclose(softmax(states, targets).mean(), cross_entropy(logits.flatten(0, 1), targets.flatten()))


@pytest.mark.parametrize("cutoffs", CUTOFFS[1:])
def test_adaptive_softmax_equals_torchs_where_that_can_be_made_the_same(cutoffs):
    softmax, states, targets = head(cutoffs)
    theirs = nn.AdaptiveLogSoftmaxWithLoss(8, WORDS, list(cutoffs), div_value=1.0, head_bias=True).double()
    with torch.no_grad():
        softmax.bias[cutoffs[0] :] = 0  # torch has none there, and a square matrix before the words instead
        theirs.head.weight.copy_(torch.cat([softmax.weight[: cutoffs[0]], softmax.clusters]))
        theirs.head.bias.copy_(torch.cat([softmax.bias[: cutoffs[0]], softmax.cluster_bias]))
        for tail, (low, high) in zip(theirs.tail, zip(cutoffs, (*cutoffs[1:], WORDS), strict=True), strict=True):
            tail[0].weight.copy_(torch.eye(8))
            tail[1].weight.copy_(softmax.weight[low:high])
    assert torch.allclose(softmax(states, targets).flatten(), -theirs(states.flatten(0, 1), targets.flatten()).output)


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_ignored_targets_cost_nothing_and_teach_nothing(cutoffs):
    softmax, states, targets = head(cutoffs)
    states.requires_grad_()
    targets[:, 15:] = -100
    found = softmax(states, targets)
    assert (found[:, 15:] == 0).all() and (found[:, :15] > 0).all()
    found.sum().backward()
    assert (states.grad[:, 15:] == 0).all() and (states.grad[:, :15].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("cutoffs", [(0,), (5, 5), (9, 4), (13,)])
def test_cutoffs_that_do_not_rise_within_the_words_are_refused(cutoffs):
    with pytest.raises(ValueError, match="must rise"):
        head(cutoffs)


def test_tied_softmax_has_the_vectors_of_the_embedding():
    tied, untied = made(cutoffs=(4,)), made(cutoffs=(4,), tied=False)
    assert tied.head.weight is tied.body.embedding.weight
    count = [sum(each.numel() for each in net.parameters()) for net in (tied, untied)]
    assert count[1] - count[0] == WORDS * SMALL["width"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers=0: must be at least 1"),
        ({"width": 15}, "width=15: must be even"),
        ({"memory": -1}, "memory=-1: must be at least 0"),
        ({"clamp": -1}, "clamp=-1: must be at least 0"),
        ({"test_memory": 0, "same_length": True}, "test_memory of at least 1"),
    ],
)
def test_sizes_that_make_no_model_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        transformer_xl(vocabulary=WORDS, **{**SMALL, **FAR, **changes})


def test_base_model_has_the_size_that_its_authors_give():
    with torch.device("meta"):
        net = transformer_xl(vocabulary=267_735, cutoffs=(20_000, 40_000, 200_000))
    assert sum(each.numel() for each in net.parameters()) == pytest.approx(151e6, rel=2e-3)


# weight normalisation -------------------------------------------------------------------------------------------------


def test_weight_normalisation_starts_from_the_same_function():
    nets = []
    for normalised in (False, True):
        torch.manual_seed(0)
        nets.append(transformer_xl(vocabulary=WORDS, **SMALL, weight_normalised=normalised))
    tokens = texts()
    plain, normalised = (net(tokens[:, :-1], tokens[:, 1:]) for net in nets)
    assert torch.allclose(plain, normalised, atol=1e-5)


def found_in(**changes):
    net = transformer_xl(vocabulary=WORDS, **{**SMALL, "layers": 1, **changes})
    tokens = texts(12)
    return net, find_invariances(net, tokens[:, :-1], tokens[:, 1:])


def test_no_weight_of_the_plain_model_is_scale_invariant():
    _, found = found_in()
    assert set(found.values()) == {None}


def test_weight_normalisation_makes_directions_invariant_row_by_row_and_gains_not():
    _, found = found_in(weight_normalised=True)
    directions = {name for name in found if name.endswith("original1")}
    gains = {name for name in found if name.endswith("original0")}
    assert len(directions) == len(gains) == 5  # qkv, distance, out, inner, outer
    assert {found[name] for name in directions} == {Blocks(dim=0, size=1)}
    assert {found[name] for name in found.keys() - directions} == {None}


def step(groups, gain, gradient):
    """How a gain moves in one step of AdamP."""
    before = gain.detach().clone()
    gain.grad = gradient
    AdamP(groups, lr=0.1).step()
    return gain.detach() - before


def test_cosine_test_never_takes_a_gain_row_by_row_but_may_by_chance_as_a_whole():
    net, found = found_in(weight_normalised=True)
    gain = net.body.layers[0].inner.parametrizations.weight.original0
    assert gain.shape == (24, 1)  # two dimensions, so the paper's test looks at it
    start = gain.detach().clone()
    usual = torch.randn(24, 1).abs()  # a row has one element: its cosine is 1, and only the whole could pass
    assert torch.allclose(step([gain], gain, usual), torch.full((24, 1), -0.1))  # Adam's first step, unprojected
    gain.data.copy_(start)
    orthogonal = torch.randn(24, 1)
    orthogonal -= start * (orthogonal * start).sum() / start.square().sum()
    moved = step([gain], gain, orthogonal)
    assert not torch.allclose(moved.abs(), torch.full((24, 1), 0.1))
    assert (moved * start).sum().abs() < 1e-6  # projected, though a gain is not scale-invariant
    gain.data.copy_(start)
    moved = step(found.param_groups(), gain, orthogonal)
    assert torch.allclose(moved, -0.1 * orthogonal.sign(), atol=1e-6)  # the detector knows better
