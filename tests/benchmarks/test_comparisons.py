"""The page of verdicts is planned within its eight hours, and says what its records say."""

import importlib.util
import json
import sys

import pytest

from experiments.comparison.test_several import NOISY, STEADY, record
from support.paths import ROOT
from tangential.experiments.comparison.contest import contest
from tangential.experiments.recipes import choose

spec = importlib.util.spec_from_file_location("benchmarks_comparisons", ROOT / "benchmarks" / "comparisons.py")
comparisons = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = comparisons  # where dataclasses look for types
spec.loader.exec_module(comparisons)


def test_plan_takes_eight_hours_and_names_what_there_is(tmp_path):
    assert sum(each.minutes for each in comparisons.PLAN) <= 8 * 60
    assert len({each.name for each in comparisons.PLAN}) == len(comparisons.PLAN)
    for each in comparisons.PLAN:
        only = ["adamp"] if "--only" in each.command(8, tmp_path) else []
        assert len(contest(choose(each.recipe, list(each.settings)), only=only).pairs) == each.pairs


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(comparisons, "RESULTS", tmp_path)
    monkeypatch.setattr(comparisons, "PAGE", tmp_path / "results.md")
    comparisons.PAGE.write_text("# Results\n\nWords.\n\n## Digits\n\nNumbers.\n")
    for name, differences in (("digits", STEADY), ("mnist-small", NOISY)):
        made = record(name, differences)
        for each in made["optimizers"]:
            each |= {"mean": 50.0, "settings": {"lr": "0.1"}}
        command = f"tangential compare {name} --budget 10"
        made |= {"metric": {"label": "accuracy (%)", "higher_is_better": True}}
        made |= {"protocol": {"environment": {"command": command}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(made))
    (tmp_path / "omniglot-triplet.txt").write_text("its samples are not drawn one by one\n")
    return comparisons.PAGE


def test_table_has_a_line_for_every_record_and_reason(page):
    comparisons.write(comparisons.verdicts())
    first = page.read_text()
    assert first.index("## Verdicts") < first.index("## Digits")
    assert "| `digits` | accuracy (%) | sgd: 50.00, lr=0.1 | sgdp: 50.00, lr=0.1 | +0.50 [" in first
    assert first.count("**better**") == 1 and first.count("**undecided**") == 1
    assert "tangential compare digits --budget 10" in first
    assert "- `omniglot-triplet` is not compared: its samples are not drawn one by one" in first
    waiting = first.split("Not compared yet: ")[1].splitlines()[0]
    assert "`bccd-ssd`" in waiting and "`digits`" not in waiting and "omniglot-triplet" not in waiting
    comparisons.write(comparisons.verdicts())
    assert page.read_text() == first
