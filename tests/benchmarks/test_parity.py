"""The published parity table: who is equal to the paper, and who is not, is as it says."""

import importlib.util
from functools import partial
from itertools import product

import pytest

from support.paths import ROOT

for package in ("adamp", "timm", "pytorch_optimizer"):
    pytest.importorskip(package)

PATH = ROOT / "benchmarks" / "parity.py"
spec = importlib.util.spec_from_file_location("parity", PATH)
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)

CASES = list(product(parity.RULES, (False, True), parity.PEERS))
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.slow,
]


@pytest.mark.parametrize(("rule", "nesterov", "peer"), CASES)
def test_ours_equals_every_package_that_follows_the_paper(rule, nesterov, peer):
    far = parity.farthest(rule, peer, nesterov)
    if (rule, nesterov, peer) in parity.DIFFERENCES:
        assert far > 1e-3
    else:
        assert far < parity.EXACT


@pytest.mark.parametrize("nesterov", [False, True])
def test_only_the_place_of_eps_sets_pytorch_optimizer_apart(nesterov, monkeypatch):
    for who, cls in (("theirs", parity.pytorch_optimizer.AdamP), ("mine", parity.tangential.AdamP)):
        make = partial(cls, lr=0.01, eps=1e-30)
        monkeypatch.setitem(parity.ADAMP, who, lambda params, n, d, make=make: make(params, weight_decay=d, nesterov=n))
    assert parity.distance("AdamP", "theirs", "mixed", nesterov, 0.1, ours="mine") < parity.EXACT


def test_page_is_that_of_this_script():
    page = parity.PAGE.read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| AdamP", "| SGDP"))]
    assert len(rows) == len(CASES)
    for (rule, nesterov, peer), row in zip(CASES, rows, strict=True):
        assert row.startswith(f"| {rule} | {'Nesterov' if nesterov else 'plain'} |")
        assert ("differs" in row) == ((rule, nesterov, peer) in parity.DIFFERENCES)
