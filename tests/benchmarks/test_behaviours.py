"""The published comparison is what its script finds, and the README says no more than it."""

import importlib.util

import pytest

from support.paths import ROOT

for package in ("adamp", "timm", "pytorch_optimizer"):
    pytest.importorskip(package)

spec = importlib.util.spec_from_file_location("behaviours", ROOT / "benchmarks" / "behaviours.py")
behaviours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(behaviours)


def rows(page):
    return [line for line in page.read_text().splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("name", behaviours.BEHAVIOURS)
@pytest.mark.filterwarnings("ignore")
def test_page_says_what_the_packages_do(name):
    cells = [behaviours.BEHAVIOURS[name](maker) for maker, _ in behaviours.PACKAGES.values()]
    assert f"| {name} | {' | '.join(cells)} |" in rows(behaviours.PAGE)


def test_readme_compares_only_what_the_page_shows():
    shown = [line for line in rows(ROOT / "README.md") if line.count("|") == 2 + len(behaviours.PACKAGES)]
    allowed = rows(behaviours.PAGE) + [line for line in shown if "parity.md" in line]
    assert shown and not set(shown) - set(allowed)
