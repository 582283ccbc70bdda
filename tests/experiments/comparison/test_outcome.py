"""The page shows what the run folders hold: differences, targets, areas, noise, and words that fit the numbers."""

import json
from math import inf

import numpy as np
import pytest

from experiments.comparison.conftest import lasting
from tangential.experiments.comparison import page
from tangential.experiments.comparison.measures import middle, probability_of_improvement, projected_shares, time_to
from tangential.experiments.comparison.sentences import sentence
from tangential.experiments.report import paired
from tangential.experiments.runs.folder import RunFolder


def last(out, name, seed):
    return 100 * RunFolder(out / "retrained" / f"{name}-seed{seed}").metrics()[-1]["test_accuracy"]


def test_differences_are_those_of_the_last_epochs_seed_by_seed(whole):
    out, (*_, made) = whole
    (pair,) = made["pairs"]
    expected = {str(seed): last(out, "sgdp", seed) - last(out, "sgd", seed) for seed in (100, 101, 102)}
    assert pair["differences"] == pytest.approx(expected)
    assert pair["mean"] == pytest.approx(np.mean(list(expected.values())))
    assert pair["verdict"] == paired.TOO_FEW
    assert made["notes"] == ["A page with 1 comparison needs 6 seeds to call one better or worse; here are 3."]


def test_target_is_the_median_of_the_tuned_baseline(whole):
    out, (_, protocol, _, made) = whole
    target = float(np.median([last(out, "sgd", seed) for seed in (100, 101, 102)]))
    assert made["families"][0]["target"] == pytest.approx(target)
    sgd, sgdp = made["optimizers"]
    assert sgd["reached"] >= 2 and sgd["steps_to_target"] % protocol.steps_per_epoch == 0
    for each in (sgd, sgdp):
        runs = [RunFolder(out / "retrained" / f"{each['name']}-seed{seed}").metrics() for seed in (100, 101, 102)]
        there = [any(100 * epoch["test_accuracy"] >= target - 1e-9 for epoch in run) for run in runs]
        assert each["reached"] == sum(there)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_run_that_never_gets_to_the_target_takes_for_ever(sign):
    epochs = [{"test_x": sign * value, "ms_per_step": 4.0} for value in (0.1, 0.3, 0.2)]
    assert time_to(epochs, "test_x", sign * 0.3, sign=sign, steps=5).steps == 10
    assert time_to(epochs, "test_x", sign * 0.3, sign=sign, steps=5).seconds == pytest.approx(0.04)
    assert time_to(epochs, "test_x", sign * 0.4, sign=sign, steps=5).steps == inf
    assert (middle([3.0, inf, 1.0]), middle([inf, inf, 1.0])) == (3.0, inf)


def test_probability_of_improvement_counts_all_pairs_of_runs():
    assert probability_of_improvement([2, 3], [0, 1]) == 1.0
    assert probability_of_improvement([2, 3], [0, 1], sign=-1) == 0.0
    assert probability_of_improvement([1, 1], [1, 1]) == 0.5


def test_projected_are_the_invariant_weights_of_the_projected_optimizer(whole):
    out, _ = whole
    assert projected_shares([RunFolder(out / "retrained" / "sgd-seed100")]) == {}
    found = projected_shares([RunFolder(out / "retrained" / "sgdp-seed100")])
    assert found["invariant"] > found.get("others", 0.0)


def test_heat_maps_have_the_scores_of_the_trials_in_common_colours(whole):
    out, (*_, tuning, made) = whole
    heat = made["families"][0]["heat"]
    assert [each["name"] for each in heat["optimizers"]] == ["sgd", "sgdp"]
    for each in heat["optimizers"]:
        cells = [cell for row in each["rows"] for cell in row["cells"]]
        scores = [100 * score for score in tuning.scores[each["name"]].values()]
        assert [cell["score"] for cell in cells] == pytest.approx(scores)
        assert sum(cell["chosen"] for cell in cells) == 1
        for cell in cells:
            assert cell["within"] == (cell["score"] >= 0.99 * heat["best"])
            assert cell["shade"] == pytest.approx(
                max(0.0, (cell["score"] - heat["pale"]) / (heat["best"] - heat["pale"])), abs=2e-3)  # fmt: skip
    trial = out / "tuning" / "sgd" / "lr=0.1-seed0" / "metrics.jsonl"
    score = 100 * json.loads(trial.read_text().splitlines()[-1])["test_accuracy"]
    assert score in [pytest.approx(100 * each) for each in tuning.scores["sgd"].values()]


PAIR = {"reference": "sgd", "contender": "sgdp", "mean": -0.02, "low": -0.5, "high": 0.46, "seeds": 8,
        "p_adjusted": 0.9, "diverged": {}}  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "begins"),
    [
        (paired.BETTER, "sgdp is better than sgd: -0.02 points [-0.50, +0.46], n = 8, p = 0.9"),
        (paired.WORSE, "sgdp is worse than sgd: "),
        (paired.EQUAL, "sgdp and sgd are equal within the margin of 0.5 points: "),
        (paired.UNDECIDED, "sgdp against sgd is undecided: "),
        (paired.TOO_FEW, "sgdp against sgd: too few seeds to tell (-0.02 points"),
    ],
)
def test_sentence_states_the_verdict_first_and_then_its_numbers(verdict, begins):
    assert sentence({**PAIR, "verdict": verdict}, margin=0.5, unit="points").startswith(begins)


def test_page_begins_with_the_verdict_and_holds_every_dot_cell_and_command(whole, tmp_path):
    *_, made = whole[1]
    html = page.render(made)
    assert html.index(made["sentences"][0].split(":")[0]) < html.index("Differences")
    assert html.count('class="dot"') == 3 + 2  # the pair's seeds, and those of the noise
    cells = sum(len(row["cells"]) for each in made["families"][0]["heat"]["optimizers"] for row in each["rows"])
    assert html.count("--shade") - html.count("var(--shade)") == cells
    assert "tangential compare tiny" in html and "https:" not in html and "http:" not in html
    written = page.save(made, tmp_path)
    assert [path.name for path in written] == ["comparison.html", "comparison.json"]
    assert lasting(json.loads(written[1].read_text())) == lasting(made)


def test_names_on_the_page_are_text(whole):
    *_, made = whole[1]
    made = json.loads(json.dumps(made).replace("sgdp", "<script>x</script>"))
    assert "<script>" not in page.render(made)


def test_table_has_a_row_for_each_optimizer_and_no_empty_column(whole):
    *_, made = whole[1]
    headings, *rows = page.table(made)
    assert [row[0] for row in rows] == ["sgd", "sgdp"]
    assert all(len(row) == len(headings) for row in rows)
    assert all(any(row[place] for row in rows) for place in range(len(headings)))
