import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from tangential.experiments.recipes import RECIPES, choose, digits
from tangential.experiments.recipes.jobs import jobs
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.overrides import override
from tangential.experiments.sweep.validation_split import ValidationSplit
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training


def start(job):
    job.folder.start(job.settings, environment(command="", threads=1))
    return fit(job.plan, job.folder)


@pytest.fixture
def smoke():
    return replace(digits.smoke(), seeds=2)


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_found_under_its_own_name_and_says_what_it_is(name):
    assert RECIPES[name].name == name
    assert 0 < len(RECIPES[name].about) <= 70


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_gives_both_of_a_pair_the_same_settings(name):
    recipe = RECIPES[name]
    for projected, baseline in recipe.baselines.items():
        assert recipe.optimizers[projected].keywords == recipe.optimizers[baseline].keywords


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_leaves_the_projection_at_its_defaults_and_states_the_decay(name):
    for make in RECIPES[name].optimizers.values():
        assert not {"delta", "wd_ratio", "blocks"} & make.keywords.keys()
        assert "weight_decay" in make.keywords


def test_smoke_takes_two_steps():
    plan = digits.smoke().plan("sgd", 0)
    assert (plan.epochs, len(plan.task.batches("train", batch_size=plan.batch_size))) == (1, 2)


def test_settings_survive_json_and_tell_all_that_decides_the_result():
    settings = digits.settings("adamp", 3)
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["recipe"], settings["optimizer"], settings["seed"]) == ("digits", "adamp", 3)
    assert settings["compared"] == {"sgd": None, "sgdp": "sgd", "adamw": None, "adamp": "adamw"}
    assert settings["made_by"]["class"] == "tangential.optimizers.AdamP"
    assert settings["made_by"]["arguments"]["weight_decay"] == 0.01
    assert settings["made_by"]["defaults"]["delta"] == 0.1


@pytest.mark.parametrize(
    "assignment",
    ["epochs=3", "batch_size=16", "task.net.width=4", "task.data.limit=9", "schedule.end=0.5", "optimizers.sgd.lr=0.2"],
)
def test_every_override_shows_in_the_settings(assignment):
    assert override(digits, assignment).settings("sgd", 0) != digits.settings("sgd", 0)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizers.sgd.lr=-1", "optimizers.sgd: Invalid learning rate"),
        ("optimizers.sgdp.lr=-1", r"optimizers.sgdp: .*lr=-1"),
        ("optimizers.adamp.betas=0.9,1.5", r"optimizers.adamp: .*betas"),
        ("optimizers.sgd.nesterov=true", None),
        ("optimizers.sgd.dampening=0.5", None),
        ("task.net.width=0", "^width=0"),
        ("schedule.end=2", "end=2.0"),
    ],
)
def test_setting_out_of_range_is_refused_before_anything_is_trained(assignment, message):
    recipe = override(digits, assignment)
    if message is None:
        recipe.check()
    else:
        with pytest.raises(ValueError, match=message):
            recipe.check()


@pytest.mark.parametrize("name", ["epochs", "batch_size", "seeds"])
def test_recipe_without_epochs_samples_or_seeds_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
        replace(digits, **{name: 0})


def test_baseline_that_is_not_compared_is_refused():
    with pytest.raises(ValueError, match="lion is not among the optimizers"):
        replace(digits, baselines={"sgdp": "lion"})


def test_all_optimizers_of_a_seed_start_from_the_same_weights():
    starts = [Training(digits.plan(name, 1)).model.state_dict() for name in digits.optimizers]
    for other in starts[1:]:
        assert all(torch.equal(starts[0][key], other[key]) for key in starts[0])


def test_jobs_go_seed_by_seed_and_write_nothing(smoke, tmp_path):
    out = tmp_path / "out"
    names = [job.folder.path.name for job in jobs(smoke, out)]
    assert names[:5] == ["sgd-seed0", "sgdp-seed0", "adamw-seed0", "adamp-seed0", "sgd-seed1"]
    assert not out.exists()


def test_jobs_know_what_is_left(smoke, tmp_path):
    recipe = replace(smoke, epochs=3)
    first, second, *_ = jobs(recipe, tmp_path)
    list(start(first))
    next(start(second))
    assert [job.left for job in jobs(recipe, tmp_path)][:3] == [0, 2, 3]


def test_more_seeds_go_on_in_the_same_folder(smoke, tmp_path):
    for job in jobs(replace(smoke, seeds=1), tmp_path):
        list(start(job))
    assert [job.left for job in jobs(smoke, tmp_path)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [job.left for job in jobs(replace(smoke, seeds=1), tmp_path)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=2", "sgd-seed0 holds a run with other settings .epochs: 1 there, 2 asked"),
        ("optimizers.sgd.lr=0.3", "made_by.arguments.lr: 0.1 there, 0.3 asked"),
    ],
)
def test_run_with_other_settings_is_refused_and_left_alone(smoke, tmp_path, assignment, message):
    list(start(jobs(smoke, tmp_path)[0]))
    before = everything_in(tmp_path)
    with pytest.raises(ValueError, match=message):
        jobs(override(smoke, assignment), tmp_path)
    assert everything_in(tmp_path) == before


def test_foreign_runs_in_the_folder_are_refused(smoke, tmp_path):
    job = jobs(smoke, tmp_path)[0]
    list(start(job))
    job.folder.path.rename(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"mine holds a run with other settings .it is of sgd and seed 0"):
        jobs(smoke, tmp_path)
    with pytest.raises(ValueError, match="mine holds a run with other settings"):
        jobs(smoke, tmp_path / "mine")


@pytest.mark.parametrize("found", [{}, {"optimizer": [], "seed": {}}, {"optimizer": "sgd"}, {"recipe": "other"}])
def test_settings_of_another_kind_are_refused(smoke, tmp_path, found):
    RunFolder(tmp_path / "sgd-seed0").start(found, {})
    with pytest.raises(ValueError, match="sgd-seed0 holds a run with other settings"):
        jobs(smoke, tmp_path)


def test_optimizer_that_cannot_be_made_is_named():
    recipe = replace(
        digits, optimizers={**digits.optimizers, "sgd": partial(torch.optim.SGD, lr=0.1, fused=True, foreach=True)}
    )
    with pytest.raises(ValueError, match=r"optimizers\.sgd: "):
        recipe.check()


def marks(recipe):
    return {each["other_data"] for name in recipe.optimizers for each in recipe.settings(name, 0)["paper"].values()}


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].paper])
def test_the_papers_numbers_are_of_the_recipes_data_and_marked_beside_any_other(name):
    recipe = RECIPES[name]
    assert marks(recipe) == {False}
    assert marks(recipe.smoke()) == marks(choose(name, smoke=True)) == {True}
    assert marks(replace(recipe, task=ValidationSplit(recipe.task))) == {True}
    data = "task.data.source" if name.startswith("biased-mnist") else "task.data"
    assert marks(choose(name, [f"{data}.root=/elsewhere", "epochs=1"])) == {False}


@pytest.mark.parametrize(
    ("name", "assignment"),
    [
        ("imagenet-resnet18", "task.data.name=other"),
        ("imagenet-resnet18", "task.data.side=64"),
        ("cifar10-adversarial-l2", "task.data.limit=100"),
        ("biased-mnist-0.997", "task.data.rho=0.9"),
        ("biased-mnist-0.997", "task.data.source.limit=100"),
        ("coco-ssd", "task.data.test=train2017"),
        ("mtat-harmonic", "task.data.test=validation"),
        ("wikitext103-txl", "task.data.test=val"),
    ],
)
def test_a_change_of_the_data_marks_the_papers_numbers(name, assignment):
    assert marks(choose(name, [assignment])) == {True}


def test_a_run_whose_papers_numbers_were_not_marked_goes_on(smoke, tmp_path):
    recipe = replace(smoke, paper=RECIPES["imagenet-resnet18"].paper, paper_data=None)
    job = jobs(recipe, tmp_path)[0]
    list(start(job))
    marked = replace(recipe, paper_data=RECIPES["imagenet-resnet18"].task.data)
    assert marks(marked) == {True}
    assert jobs(marked, tmp_path)[0].left == 0


@pytest.mark.parametrize(
    "name", ["omniglot-proxy-anchor", "omniglot-triplet", "biased-mnist-small", "cub-proxy-anchor"]
)
def test_every_optimizer_is_made_from_groups_of_its_own(name):
    recipe = RECIPES[name].smoke()
    recipe.check()
    replace(recipe, optimizers={**digits.optimizers, **recipe.optimizers}, baselines={}).check()
