"""What each weight did: telemetry files, curves over seeds, and the layer explorer's bound."""

import json
import math

import numpy as np
import pytest

from tangential.blocks import Blocks
from tangential.experiments.report import explorer, layers, page
from tangential.experiments.report.comparison import gather
from tangential.experiments.report.series import Series, banded, stretches
from tangential.experiments.runs.files import replace_text
from tangential.experiments.runs.folder import RunFolder, find
from tangential.invariances import Invariances
from tangential.invariances.verdicts import Verdict

KIND = {"kind": "channel", "blocks": 8}


def weight(norm=1.0, step=0.1, radial=3.0, tangential=4.0, **more):
    figures = {"norm": norm, "effective_step": step, "angle": step, "radial_update": radial}
    return KIND | figures | {"tangential_update": tangential} | more


def write(path, *records, end="\n"):
    path.write_text("\n".join(map(json.dumps, records)) + end)
    return path


def step(number, epoch, **weights):
    return {"step": number, "epoch": epoch, "weights": weights}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "telemetry.jsonl"


def test_run_that_was_not_watched_has_no_layers(path):
    assert layers.read(path) is None
    path.write_text("")
    assert layers.read(path) is None


def test_epoch_has_its_last_norm_and_the_mean_of_all_else(path):
    write(
        path,
        step(10, 1, a=weight(norm=1.0, step=0.2, projected=True)),
        step(20, 1, a=weight(norm=2.0, step=0.4, projected=False)),
        step(30, 2, a=weight(norm=3.0, step=0.1, radial=-3.0)),
    )
    found = layers.read(path)
    assert (found.unit, found.x.tolist(), found.names) == ("epoch", [1, 2], ("a",))
    assert found.about == ("channel, 8 blocks",)
    assert found.values["norm"].tolist() == [[2.0, 3.0]]
    assert found.values["effective_step"][0] == pytest.approx([0.3, 0.1])
    assert found.values["radial_fraction"][0] == pytest.approx([0.6, 0.6])
    assert found.values["projected"][0, 0] == 0.5
    assert math.isnan(found.values["projected"][0, 1])
    assert math.isnan(found.values["equilibrium"][0, 0])


def test_medians_are_those_of_the_file_or_of_its_weights(path):
    summary = {"norm": {"median": 7.0, "q10": 1.0, "q90": 9.0}}
    a_and_b = {"a": weight(norm=1.0, step=0.1), "b": weight(norm=3.0, step=0.3)}
    write(path, step(1, 1, **a_and_b), step(2, 2, **a_and_b) | {"summary": summary})
    found = layers.read(path)
    assert found.medians["norm"].tolist() == [2.0, 7.0]
    assert found.medians["angle"] == pytest.approx([0.2, 0.2])


def test_steps_stand_for_themselves_where_an_epoch_is_missing(path):
    write(path, step(10, None, a=weight()), step(20, None, a=weight()))
    found = layers.read(path)
    assert (found.unit, found.x.tolist()) == ("step", [10, 20])


def test_weights_that_come_and_go_leave_gaps(path):
    write(path, step(1, 1, a=weight()), step(2, 2, b=weight()), step(3, 3, b=weight(), a=weight()))
    found = layers.read(path)
    assert found.names == ("a", "b")
    assert np.isfinite(found.values["norm"]).tolist() == [[True, False, True], [False, True, True]]


def test_what_is_not_finite_is_null_and_does_not_spoil_the_mean(path):
    write(path, step(1, 1, a=weight(step=None, radial=None)), step(2, 1, a=weight(step=0.2)))
    found = layers.read(path)
    assert found.values["effective_step"].tolist() == [[0.2]]
    assert found.values["radial_fraction"][0] == pytest.approx([0.6])


def test_weight_that_did_not_move_has_no_radial_fraction(path):
    write(path, step(1, 1, a=weight(radial=0.0, tangential=0.0)))
    assert np.isnan(layers.read(path).values["radial_fraction"]).all()


def test_last_line_that_was_cut_off_does_not_count(path):
    write(path, step(1, 1, a=weight()), step(2, 2, a=weight()), end="")
    assert layers.read(path).x.tolist() == [1]


def test_step_that_ran_twice_counts_as_it_ran_last(path):
    write(path, step(1, 1, a=weight(norm=1.0)), step(2, 2, a=weight(norm=5.0)), step(2, 2, a=weight(norm=2.0)))
    assert layers.read(path).values["norm"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2 is not JSON"),
        ("[]", "line 2 is not a step's telemetry"),
        ("{}", "line 2 is not a step's telemetry"),
        ('{"step": 1, "weights": {"a": {}}}', "line 2 is not a step's telemetry"),
        ('{"step": 1, "weights": {"a": 3}}', "line 2 is not a step's telemetry"),
        ('{"step": 1, "weights": [1]}', "line 2 is not a step's telemetry"),
        (json.dumps(step(1, 1, a=weight(norm="x"))), "line 2 is not a step's telemetry"),
    ],
)
def test_broken_line_is_named(path, line, message):
    path.write_text(json.dumps(step(1, 1, a=weight())) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=rf"telemetry\.jsonl is broken \({message}\)"):
        layers.read(path)


def test_runs_that_logged_at_different_steps_are_interpolated():
    band = banded([Series(np.array([0, 10]), np.array([0.0, 10.0])), Series(np.array([5]), np.array([7.0]))])
    assert band.x.tolist() == [0, 5, 10]
    assert band.mean.tolist() == [0.0, 6.0, 10.0]
    assert (band.low[1], band.high[1]) == (5.0, 7.0)


@pytest.mark.parametrize("length", [3, 399, 400, 401, 1000, 12345])
def test_long_curve_has_few_points_and_keeps_its_ends_and_its_range(length):
    y = np.random.default_rng(0).normal(size=length)
    band = banded([Series(np.arange(length), y)], points=400)
    assert len(band.x) == min(length, 400)
    assert (np.diff(band.x) > 0).all()
    assert (band.mean[0], band.mean[-1], band.x[-1]) == (y[0], y[-1], length - 1)
    assert (band.low.min(), band.high.max()) == (y.min(), y.max())


@pytest.mark.parametrize(("length", "count"), [(0, 3), (1, 3), (3, 3), (7, 3), (100, 12)])
def test_stretches_cover_everything_and_are_even(length, count):
    lengths = np.diff([*stretches(length, count), length])
    assert len(lengths) == min(length, count)
    assert lengths.sum() == length
    assert length == 0 or lengths.max() - lengths.min() <= 1


def write_run(out, optimizer, seed, records, *, epochs, **settings):
    run = RunFolder(out / f"{optimizer}-seed{seed}")
    compared = {"sgd": None, "sgdp": "sgd"}
    settings = {"optimizer": optimizer, "seed": seed, "epochs": epochs, "compared": compared} | settings
    run.start(settings, {})
    for epoch in range(1, epochs + 1):
        run.append({"epoch": epoch, "train_loss": 1.0, "test_accuracy": 0.5})
    if records:
        write(run.telemetry, *records)
    return run


def test_explorer_has_every_run_s_weights_by_epoch(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "sgd", seed, [step(5, 1, a=weight(norm=1.0 + seed)), step(9, 2, a=weight())], epochs=2)
    found = explorer.explorer(gather(find([tmp_path])))
    assert (found["unit"], found["names"], found["about"], found["notes"]) == ("epoch", ["a"], [KIND_TEXT], [])
    assert [(run["group"], run["seed"], run["x"]) for run in found["runs"]] == [("sgd", 0, [1, 2]), ("sgd", 1, [1, 2])]
    assert found["runs"][1]["values"]["norm"] == [[2.0, 1.0]]
    assert [figure["key"] for figure in found["figures"]] == ["norm", "effective_step", "angle", "radial_fraction"]


KIND_TEXT = "channel, 8 blocks"


def test_medians_over_weights_are_curves_where_the_metrics_have_none(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [step(1, 1, a=weight(norm=3.0, step=0.25))], epochs=1)
    curves = gather(find([tmp_path])).groups[0].runs[0].curves
    assert (curves["angle"].y.tolist(), curves["weight_norm"].y.tolist()) == ([0.25], [3.0])
    run.rewind(0)
    run.append({"epoch": 1, "train_loss": 1.0, "test_accuracy": 0.5, "weight_norm": 9.0})
    curves = gather(find([tmp_path])).groups[0].runs[0].curves
    assert curves["weight_norm"].y.tolist() == [9.0]


def test_shorter_run_ends_where_it_ends(tmp_path):
    write_run(tmp_path, "sgd", 0, [step(i, i, a=weight()) for i in (1, 2, 3)], epochs=1)
    write_run(tmp_path, "sgd", 1, [step(1, 1, a=weight())], epochs=1)
    runs = explorer.explorer(gather(find([tmp_path])))["runs"]
    assert [run["x"] for run in runs] == [[1, 2, 3], [1]]
    assert [len(run["values"]["norm"][0]) for run in runs] == [3, 1]


def test_large_runs_make_a_page_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "NUMBERS", 20_000)
    names = [f"layer{i}.weight" for i in range(300)]
    records = [step(e, e, **dict.fromkeys(names, weight(norm=e))) for e in range(1, 201)]
    for seed in (0, 1):
        write_run(tmp_path, "sgd", seed, records, epochs=1)
    comparison = gather(find([tmp_path]))
    found = explorer.explorer(comparison)
    numbers = sum(len(row) for run in found["runs"] for rows in run["values"].values() for row in rows)
    assert 5_000 < numbers <= 20_000
    shown, columns = len(found["names"]), len(found["runs"][0]["x"])
    assert (found["names"][0], columns) == ("layer0.weight", explorer.FEWEST_COLUMNS)
    assert found["runs"][0]["values"]["norm"][0][-1] == 200.0
    assert found["notes"][0] == f"{shown} of the 300 weights are shown, evenly spread over the network."
    assert found["notes"][1].startswith(f"200 epochs are merged into {columns} columns")
    assert page.render(comparison, scripts=False)


def test_run_folder_s_invariances_are_on_the_page(tmp_path):
    for optimizer in ("sgd", "sgdp"):
        run = write_run(tmp_path, optimizer, 0, [], epochs=1)
        found = Invariances([Verdict("<b>conv", (8, 3), "channel", Blocks(), residual=1e-15)], notes=["a note"])
        replace_text(run.invariances, found.to_json())
    html = page.render(gather(find([tmp_path])), scripts=False)
    assert html.count("&lt;b&gt;conv") == 1, "both runs have the same model"
    assert '<td class="blocks">channel</td>' in html
    assert "a note" in html
    replace_text(run.invariances, "{}")
    with pytest.raises(ValueError, match=r"invariances\.json of sgdp is broken"):
        page.render(gather(find([tmp_path])), scripts=False)
