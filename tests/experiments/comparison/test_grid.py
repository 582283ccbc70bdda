"""The grid of a family is the same for all of its optimizers, and extended once where a best value lies at an edge."""

from dataclasses import replace
from math import inf

import pytest

from support.tiny_recipe import tiny
from tangential.experiments.comparison.contest import contest
from tangential.experiments.comparison.grid import Axis, Grid, grids, smallest, with_values
from tangential.experiments.comparison.tuning import best, extended, within
from tangential.experiments.recipes import RECIPES, digits

PAIRS = [("sgd", "sgdp"), ("adamw", "adamp")]


def levels(grid):
    return {axis.setting: axis.levels for axis in grid.axes}


@pytest.mark.parametrize("trials", [9, 12, 16, 25, 30])
def test_default_space_is_learning_rate_and_decay_around_the_recipe_for_every_optimizer(trials):
    made = grids(digits, PAIRS, [], trials)
    for name, grid in made.items():
        assert len(grid) <= trials < len(grid) * 2
        given = digits.optimizers[name].keywords
        for axis in grid.axes:
            numbers = [float(level) for level in axis.levels]
            assert numbers == sorted(numbers) and len(numbers) >= 3
            assert (numbers[0], numbers[-1]) == pytest.approx((given[axis.setting] / 10, given[axis.setting] * 10))
    assert levels(made["sgd"]) == levels(made["sgdp"])


def test_a_recipe_without_decay_tunes_the_rate_alone():
    (grid,) = {
        tuple(each) for each in map(levels, grids(RECIPES["mnist-small-nowd"], PAIRS, [], 5).values())
    }  # the same settings for all
    assert grid == ("lr",)


def test_typed_ranges_take_the_place_of_the_default_ones():
    ranges = ["optimizers.*.lr=1e-3..1", "batch_size=16..64", "schedule.end=0..0.5", "task.net.width=4|8"]
    made = grids(digits, PAIRS, ranges, 60)["adamp"]
    assert levels(made) == {"lr": ("0.001", "0.03162", "1"), "batch_size": ("16", "40", "64"),
                            "schedule.end": ("0", "0.25", "0.5"), "task.net.width": ("4", "8")}  # fmt: skip
    assert len(made) == 54 == smallest(digits, ranges)
    recipe = with_values(digits, made.values((1, 2, 0, 1)))
    assert (recipe.optimizers["adamp"].keywords["lr"], recipe.batch_size, recipe.task.net.keywords["width"]) == (
        0.03162, 64, 8)  # fmt: skip


@pytest.mark.parametrize(
    ("ranges", "trials", "says"),
    [
        ([], 8, r"8 trials are fewer than the 9 of the smallest grid over .*sgd.lr=0.01..1"),
        (["optimizers.sgd.lr=0.1..1", "optimizers.sgdp.lr=0.1|1"], 9, "unequal search spaces, sgd 9 trials, sgdp 2"),
        (["optimizers.sgd.lr=0.1..1", "optimizers.sgdp.lr=0.1..1"], 9, "unequal search spaces, adamw 1 trials"),
        (["optimizers.sgd.lr=0.1..1"], 9, "sgd has ranges and sgdp has none"),
    ],
)
def test_unequal_or_too_small_searches_are_refused(ranges, trials, says):
    with pytest.raises(ValueError, match=says):
        grids(digits, PAIRS, ranges, trials)


def grid(name="sgd", rates=("0.01", "0.1", "1"), decays=("1e-05", "0.0001", "0.001")):
    return Grid(name, (Axis(f"optimizers.{name}.lr", rates), Axis(f"optimizers.{name}.weight_decay", decays)))


def scored(searched, at, *, ties=()):
    return {point: 1.0 if point in (at, *ties) else 0.5 for point in searched.points()}


def test_of_equally_good_points_the_one_nearest_to_the_middle_is_best():
    found = best(grid(), scored(grid(), (0, 0), ties=[(2, 1), (1, 2), (2, 2)]))
    assert found.point == (1, 2) and found.edges == (("weight_decay", "above"),)
    assert best(grid(), scored(grid(), (0, 0), ties=[(1, 1)])).edges == ()
    assert found.values == {"optimizers.sgd.lr": "0.1", "optimizers.sgd.weight_decay": "0.001"}


def test_a_range_is_extended_for_the_whole_family_where_any_of_it_is_best_at_an_edge():
    space = {"sgd": grid(), "sgdp": grid("sgdp")}
    found = {"sgd": best(space["sgd"], scored(space["sgd"], (1, 1))),
             "sgdp": best(space["sgdp"], scored(space["sgdp"], (2, 0)))}  # fmt: skip
    wider = extended(tiny, space, found, ["sgd", "sgdp"])
    for each in wider:
        assert levels(each) == {"lr": ("0.01", "0.1", "1", "10"), "weight_decay": ("1e-06", "1e-05", "0.0001", "0.001")}
    assert set(space["sgd"].values((0, 0)).items()) <= {
        pair for point in wider[0].points() for pair in wider[0].values(point).items()
    }


def test_a_level_that_an_optimizer_refuses_is_not_added_for_any():
    rates = {name: Grid(name, (Axis(f"optimizers.{name}.momentum", ("0.1", "0.5", "0.9"), "linear"),))
             for name in ("sgd", "sgdp")}  # fmt: skip
    found = {name: best(each, scored(each, (2,))) for name, each in rates.items()}
    assert [levels(each) for each in extended(tiny, rates, found, ["sgd", "sgdp"])] == [
        {"momentum": ("0.1", "0.5", "0.9")}
    ] * 2


def test_choices_have_no_edges():
    searched = Grid("sgd", (Axis("batch_size", ("16", "32"), "choices"),))
    assert best(searched, {(0,): 1.0, (1,): 0.0}).edges == ()


def test_area_near_the_best_counts_in_both_directions_of_a_score():
    assert within({(0,): 0.99, (1,): 0.98, (2,): -inf}, 1.0) == pytest.approx(1 / 3)
    assert within({(0,): -5.04, (1,): -5.06}, -5.0) == pytest.approx(1 / 2)  # a perplexity


def test_variants_of_a_projected_optimizer_share_the_space_of_its_family():
    found = contest(digits, only=["adamp"], against=["wd_ratio=1", "blocks=none", "blocks=detected,nesterov=true"])
    variants = ["adamp-wd_ratio-1", "adamp-blocks-none", "adamp-blocks-detected-nesterov-true"]
    assert found.families == (("adamw", "adamp", *variants),)
    assert [(pair.reference, pair.contender) for pair in found.pairs] == [
        (name, "adamp") for name in ("adamw", *variants)
    ]
    made = found.recipe.optimizers
    assert made["adamp-blocks-none"].keywords == made["adamp"].keywords | {"blocks": None}
    assert made["adamp-blocks-detected-nesterov-true"].keywords["nesterov"] is True
    assert found.recipe.baselines == {name: "adamw" for name in ("adamp", *variants)}
    searched = grids(found.recipe, found.families, [], 9)
    assert len({str(levels(each)) for each in searched.values()}) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"only": ["sgd"]}, "digits has no projected optimizer sgd; it has sgdp, adamp"),
        ({"against": ["wd_ratio=2"], "only": ["adamp"]}, None),
        ({"against": ["colour=2"]}, "has no 'colour'"),
        ({"against": ["wd_ratio=1", "wd_ratio=1"]}, "has that already"),
    ],
)
def test_unknown_optimizers_and_settings_are_refused(given, says):
    if says is None:  # what the optimizer itself refuses, before anything is trained
        with pytest.raises(ValueError, match=r"optimizers.adamp-wd_ratio-2: wd_ratio=2"):
            contest(digits, **given).recipe.check()
    else:
        with pytest.raises(ValueError, match=says):
            contest(digits, **given)


def test_a_recipe_without_projected_optimizers_is_refused():
    with pytest.raises(ValueError, match="digits has no projected optimizer"):
        contest(replace(digits, baselines={}))
