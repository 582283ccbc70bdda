"""What a detected answer does to training: invariant blocks take no radial step, variant weights take AdamW's."""

import copy

import pytest
import torch
from torch import nn

from support.weights import block_dots
from support.zoo import GPT, tokens
from tangential import AdamP, find_invariances

CASES = {
    "gpt with fused qk-norm": lambda: (GPT(fused=True), tokens()),
    "gpt with qk-norm": lambda: (GPT(), tokens()),
    "batch norm net": lambda: (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)),
        torch.randn(8, 3, 8, 8),
    ),
}


def adamw_step(p, own, step, group):
    """Where torch's AdamW would take this weight from the same moments."""
    twin = nn.Parameter(p.detach().clone())
    twin.grad = p.grad.clone()
    optimizer = torch.optim.AdamW([twin], lr=group["lr"], weight_decay=group["weight_decay"], foreach=False)
    if own:
        optimizer.state[twin] = {k: own[k].clone() for k in ("step", "exp_avg", "exp_avg_sq")}
    optimizer.step()
    return twin.detach()


@pytest.mark.parametrize("case", CASES)
def test_detected_blocks_take_no_radial_step_and_the_rest_takes_adamws(case):
    model, batch = CASES[case]()
    model = model.double()
    batch = batch.double() if batch.is_floating_point() else batch
    found = find_invariances(copy.deepcopy(model), batch)
    groups = found.param_groups(model, weight_decay=0.1)
    optimizer = AdamP(groups, lr=1e-2, wd_ratio=0.0)  # so that an invariant block's step is the projected one alone
    assert any(found[name] is not None for name in found)
    for step in range(20):
        optimizer.zero_grad()
        out = model(batch)
        nn.functional.cross_entropy(out.flatten(0, -2), torch.arange(out[..., 0].numel()) % out.shape[-1]).backward()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        plain = {
            name: adamw_step(p, optimizer.state.get(p), step, group)
            for group in optimizer.param_groups
            for name, p in zip(group["param_names"], group["params"], strict=True)
        }
        optimizer.step()
        for name, p in model.named_parameters():
            blocks, moved = found[name], p.detach() - before[name]
            if blocks is None:
                torch.testing.assert_close(p.detach(), plain[name], rtol=1e-12, atol=1e-14)
            else:
                radial = block_dots(blocks, before[name], moved).abs()
                sizes = (block_dots(blocks, before[name], before[name]) * block_dots(blocks, moved, moved)).sqrt()
                assert (radial <= 1e-6 * sizes + 1e-15).all()
