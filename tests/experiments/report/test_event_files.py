"""Event files of other programs as a report."""

import pytest
from torch.utils.tensorboard import SummaryWriter

from support.run_folders import data, log
from tangential.experiments.report import page, tables
from tangential.experiments.report.event_files import gather_events


def charts(comparison):
    return {chart["key"]: chart for chart in data(page.render(comparison, scripts=False))["charts"]}


def test_scalars_become_curves_over_steps(tmp_path):
    log(tmp_path / "one", {"train/loss": [3.0, 2.0, 1.0], "val/acc": [0.25, 0.5]})
    comparison = gather_events([tmp_path])
    assert (comparison.unit, comparison.noun, comparison.title) == ("step", "run", tmp_path.name)
    drawn = charts(comparison)
    assert drawn["train/loss"]["lines"][0]["x"] == [0, 10, 20]
    assert drawn["train/loss"]["lines"][0]["mean"] == [3.0, 2.0, 1.0]
    assert [str(cell) for cell in tables.table(comparison).rows[0]] == ["one", "0.5000", "1.000"]
    assert tables.table(comparison).headings == ("run", "val/acc", "train/loss")


def test_scalars_that_tensorflow_writes_as_tensors_are_read(tmp_path):
    log(tmp_path, {}, flush_secs=1)
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", 0.5, 3, new_style=True)
    assert charts(gather_events([tmp_path]))["loss"]["lines"][0]["mean"] == [0.5]


@pytest.mark.parametrize("name", ["{}/seed{}", "{}-seed-{}", "{}_seed={}", "seed{1}/{0}"])
def test_runs_that_differ_in_their_seed_are_one_group(tmp_path, name):
    for seed, value in enumerate((1.0, 3.0)):
        log(tmp_path / name.format("sgd", seed), {"loss": [value]})
    (group,) = gather_events([tmp_path]).groups
    assert (group.label, sorted(group.runs)) == ("sgd", [0, 1])
    line = charts(gather_events([tmp_path]))["loss"]["lines"][0]
    assert (line["mean"], line["low"], line["high"]) == ([2.0], [1.0], [3.0])


def test_runs_of_other_hyperparameters_or_the_same_seed_stay_apart(tmp_path):
    for number, lr in enumerate((0.1, 0.2)):
        with SummaryWriter(tmp_path / f"sgd-seed{number}") as writer:
            writer.add_scalar("loss", 1.0, 0)
            writer.add_hparams({"lr": lr, "seed": number, "<b>": "</script>"}, {}, run_name=".")
    log(tmp_path / "sgd" / "seed0", {"loss": [1.0]})
    groups = gather_events([tmp_path]).groups
    assert sorted(group.label for group in groups) == ["sgd", "sgd-seed0", "sgd-seed1"]
    assert [group.settings for group in groups if group.label == "sgd-seed1"] == [{"lr": 0.2, "<b>": "</script>"}]


def test_runs_of_several_folders_are_named_by_their_folders(tmp_path):
    for folder in "ab":
        log(tmp_path / folder / "run", {"loss": [1.0]})
    groups = gather_events([tmp_path / "a", tmp_path / "b"]).groups
    assert [group.label for group in groups] == ["a/run", "b/run"]


def test_points_that_are_not_finite_are_left_out_and_said(tmp_path):
    log(tmp_path / "run", {"loss": [1.0, float("nan"), float("inf"), 2.0], "all": [float("nan")]})
    log(tmp_path / "empty", {})
    comparison = gather_events([tmp_path])
    assert comparison.groups[0].runs[0].curves["loss"].x.tolist() == [0, 30]
    assert comparison.notes[0] == "Points that are NaN or infinite are left out: loss, all."
    assert comparison.notes[1].startswith("Runs without a scalar are left out: ")
    assert "NaN or infinite" in page.render(comparison, scripts=False)


def test_step_that_was_logged_twice_counts_as_it_was_last(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step, value in ((1, 1.0), (2, 9.0), (2, 2.0)):
            writer.add_scalar("loss", value, step)
    assert gather_events([tmp_path]).groups[0].runs[0].curves["loss"].y[-1] == 2.0


def test_folder_without_what_is_needed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        gather_events([tmp_path / "missing"])
    with pytest.raises(ValueError, match="no event file"):
        gather_events([tmp_path])
    log(tmp_path, {})
    with pytest.raises(ValueError, match="hold no scalar"):
        gather_events([tmp_path])


def test_file_that_only_looks_like_events_is_refused(tmp_path):
    (tmp_path / "events.out.tfevents.1").write_text("nonsense " * 100)
    with pytest.raises(ValueError, match=r"cannot be read|hold no scalar"):
        gather_events([tmp_path])


def test_missing_package_is_named(tmp_path, monkeypatch):
    log(tmp_path, {"loss": [1.0]})
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.compat.proto", None)
    with pytest.raises(ValueError, match=r"pip install 'tangential\[tensorboard\]'"):
        gather_events([tmp_path])
