"""Several comparisons are judged as one page, and counted by who is ahead."""

import json
from math import inf

import pytest

from tangential.experiments.comparison import several_page
from tangential.experiments.comparison.several import RATIOS, improvement, profile, read_records, several, sign_test
from tangential.experiments.report import paired

STEADY = [0.48, 0.5, 0.52, 0.49, 0.51, 0.5, 0.47, 0.53]
NOISY = [1.0, -1.1, 0.9, -1.0, 1.2, -0.8, 1.0, -1.3]


def record(name, differences, *, higher=True, steps=(200, 100)):
    """A record as a comparison of sgd, whose runs all score 50, with sgdp makes it."""
    by_seed = {str(100 + seed): value for seed, value in enumerate(differences)}
    difference = paired.Difference.of({int(seed): value for seed, value in by_seed.items()})
    pair = {"reference": "sgd", "contender": "sgdp", "mean": difference.spread.mean, "low": difference.low,
            "high": difference.high, "seeds": len(differences), "p": difference.p, "p_adjusted": difference.p,
            "differences": by_seed, "diverged": {}}  # fmt: skip
    optimizers = [
        {"name": "sgd", "scores": dict.fromkeys(by_seed, 50.0), "steps_to_target": steps[0]},
        {"name": "sgdp", "scores": {seed: 50 + value for seed, value in by_seed.items()}, "steps_to_target": steps[1]},
    ]
    return {"name": name, "pairs": [pair], "optimizers": optimizers, "margin": 0.1, "unit": "points",
            "metric": {"higher_is_better": higher}}  # fmt: skip


def test_a_verdict_that_holds_alone_may_not_hold_among_many():
    assert several([record("one", STEADY)])["lines"][0]["verdict"] == paired.BETTER
    made = several([record("one", STEADY), *(record(f"other {n}", NOISY) for n in range(7))])
    assert {line["verdict"] for line in made["lines"]} == {paired.UNDECIDED}
    assert made["lines"][0]["p_adjusted"] == pytest.approx(8 * 2 / 2**8)
    assert made["notes"][0].startswith("8 comparisons on one page need 9 seeds each")


def test_tasks_where_less_is_better_count_the_other_way():
    made = several([record("up", STEADY), record("down", STEADY, higher=False)])
    assert [line["verdict"] for line in made["lines"]] == [paired.BETTER, paired.WORSE]
    (common,) = made["common"]
    assert (common["tasks"], common["wins"], common["losses"], common["p"]) == (2, 1, 1, 1.0)
    assert common["improvement"] == 0.5


def test_sign_test_is_the_binomial_one():
    assert sign_test(5, 0) == 2 / 2**5
    assert sign_test(4, 1) == pytest.approx(2 * (1 + 5) / 2**5)
    assert sign_test(0, 0) == 1.0


def test_profile_counts_tasks_by_how_much_longer_one_takes():
    found = profile([(100, 100), (100, 140), (300, 100), (inf, inf)])
    assert found["reference"] == [0.5, 0.5, 0.5, 0.5, 0.5, 0.75]
    assert found["contender"] == [0.5, 0.5, 0.5, 0.75, 0.75, 0.75]
    assert len(RATIOS) == 6


def test_interval_of_the_probability_of_improvement_holds_it_and_draws_runs_within_tasks():
    mean, low, high = improvement([([2.0, 3.0, 4.0], [1.0, 2.5, 3.5]), ([1.0, 1.0], [0.0, 0.0])])
    assert 0.5 < low < mean < high <= 1
    assert improvement([([1.0, 1.0], [0.0, 0.0])]) == (1.0, 1.0, 1.0)


def test_folders_are_read_written_and_refused(tmp_path):
    for name, values in (("a", STEADY), ("b", NOISY)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "comparison.json").write_text(json.dumps(record(name, values)))
    made = several(read_records([tmp_path / "a", tmp_path / "b"]))
    html, data = several_page.save(made, tmp_path)
    assert json.loads(data.read_text()) == made
    assert html.read_text().count("sgdp is better than sgd") == 1
    assert "sgdp is ahead of sgd in 1 of 2 tasks and behind in 1 (sign test p = 1)" in html.read_text()
    with pytest.raises(ValueError, match="no finished comparison; run `tangential compare` with --out"):
        read_records([tmp_path / "c"])
    (tmp_path / "b" / "comparison.json").write_text("{}")
    with pytest.raises(ValueError, match="is no record of a comparison: it has no 'name'"):
        read_records([tmp_path / "b"])
