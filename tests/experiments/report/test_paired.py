"""The statistics of paired differences keep their promises: coverage, false positives, exactness, and few seeds."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from tangential.experiments.report import paired
from tangential.experiments.report.paired import Difference, holm, shown, sign_flip_p, student_interval, verdicts
from tangential.experiments.report.strips import strips


def differences(rng, shape):
    """No effect: the same normal scores with a seed's share in both, as two equal optimizers have."""
    seed, *own = rng.normal(size=(3, *shape))
    return (3 * seed + own[0]) - (3 * seed + own[1])


@pytest.mark.parametrize("n", [3, 5, 8])
def test_interval_holds_the_mean_in_95_of_100_samples(n):
    low, high = student_interval(1.5 + differences(np.random.default_rng(n), (20_000, n)))
    assert 0.93 <= ((low <= 1.5) & (high >= 1.5)).mean() <= 0.97


@pytest.mark.parametrize("n", [9, 10])
def test_pages_without_any_effect_make_at_most_5_of_100_a_claim(n):
    samples = differences(np.random.default_rng(n), (2000, 8, n))
    claims = shown(holm(sign_flip_p(samples)), *student_interval(samples))
    assert 0 < claims.any(axis=-1).mean() <= 0.05
    assert (sign_flip_p(samples[:, 0]) <= 0.05).mean() > 0.03  # one alone is not tested so strictly
    assert (sign_flip_p(samples) <= 0.05).any(axis=-1).mean() > 0.15  # what the page would claim without Holm


def test_an_effect_is_found():
    samples = 1.5 + differences(np.random.default_rng(0), (200, 8, 10))
    assert shown(holm(sign_flip_p(samples)), *student_interval(samples)).mean() > 0.5


@pytest.mark.parametrize(
    "values", [[1.0], [1.0, -0.5, 2.0], [0.2, 0.2, -0.1, 0.0, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
)
def test_sign_flip_p_is_the_share_of_sign_patterns_with_as_large_a_mean(values):
    means = [abs(sum(sign * value for sign, value in zip(signs, values, strict=True))) for signs in
             product((1, -1), repeat=len(values))]  # fmt: skip
    expected = sum(each >= abs(sum(values)) - 1e-12 for each in means) / len(means)
    assert sign_flip_p(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_sign_flip_p_depends_on_neither_scale_nor_order(scale):
    values = np.array([1 / 3, 2 / 3, -1 / 3, 1.0, 1 / 3, 0.0])
    found = {float(sign_flip_p(scale * values[list(order)])) for order in list(permutations(range(6)))[::60]}
    assert len(found) == 1


def test_many_seeds_are_tested_by_drawn_patterns_the_same_every_time():
    values = np.random.default_rng(0).normal(0.3, 1, size=24)
    expected = stats.ttest_1samp(values, 0).pvalue
    assert float(sign_flip_p(values)) == float(sign_flip_p(values)) == pytest.approx(expected, abs=0.02)


def test_holm_is_the_least_level_at_which_the_step_down_procedure_rejects():
    p = np.random.default_rng(1).uniform(0, 0.2, size=7)

    def rejected(level):
        taken = set()
        for k, place in enumerate(np.argsort(p)):
            if p[place] > level / (len(p) - k):
                break
            taken.add(int(place))
        return taken

    for place, adjusted in enumerate(holm(p)):
        assert place in rejected(adjusted * (1 + 1e-9))
        assert place not in rejected(adjusted * (1 - 1e-9)) or adjusted == 0


def test_interval_is_scipys():
    values = np.array([0.3, -0.1, 0.4, 0.2])
    found = stats.ttest_1samp(values, 0).confidence_interval()
    assert student_interval(values) == pytest.approx(found)


def by_seed(values):
    return Difference.of(dict(enumerate(values)))


STEADY = [0.48, 0.5, 0.52, 0.49, 0.51, 0.5, 0.47, 0.53]


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        (STEADY, {}, paired.BETTER),
        (STEADY, {"higher_is_better": False}, paired.WORSE),
        (STEADY, {"margin": 0.6}, paired.EQUAL),
        (STEADY, {"margin": 0.5}, paired.BETTER),
        (STEADY[:5], {}, paired.TOO_FEW),
        (STEADY[:5], {"margin": 10.0}, paired.TOO_FEW),
        (STEADY[:6], {}, paired.BETTER),
        ([-each for each in STEADY], {}, paired.WORSE),
        ([0.0] * 8, {}, paired.UNDECIDED),
        ([0.0] * 8, {"margin": 0.1}, paired.EQUAL),
        ([1.0, -1.0] * 4, {"margin": 0.5}, paired.UNDECIDED),
        ([1.0], {}, paired.TOO_FEW),
    ],
)
def test_verdict(values, settings, words):
    assert [each.words for each in verdicts([by_seed(values)], **settings)] == [words]


def test_what_is_shown_alone_may_not_be_on_a_page_of_many():
    level = [[1.0, -1.1, 0.9, -1.0, 1.2, -0.8, 1.0, -1.3]] * 6
    alone, *_ = verdicts([by_seed(STEADY)])
    crowded, *others = verdicts([by_seed(each) for each in [STEADY, *level]])
    assert (alone.words, crowded.words) == (paired.BETTER, paired.UNDECIDED)
    assert (alone.p, crowded.p) == pytest.approx((2 / 2**8, 7 * 2 / 2**8))
    assert {each.words for each in others} == {paired.UNDECIDED}
    assert paired.seeds_needed(7) == 9


def test_every_difference_has_a_dot_and_none_hides_another():
    drawn = strips({"sgdp": by_seed([0.5, 0.5, 0.5, -1.0])}, margin=0.2)
    assert [(dot.seed, dot.value) for dot in drawn.strips[0].dots] == [(0, 0.5), (1, 0.5), (2, 0.5), (3, -1.0)]
    assert len({(dot.place, dot.layer) for dot in drawn.strips[0].dots}) == 4
    assert 0 < drawn.strips[0].low < drawn.margin[0] < drawn.zero < drawn.margin[1] < drawn.strips[0].high < 100
    assert strips({}) is None
