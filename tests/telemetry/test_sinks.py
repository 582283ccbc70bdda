"""Records reach the file and the loggers whole, whatever weights are called and whenever the process dies."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch

from tangential import watch
from tangential.telemetry import JsonLines, MLflow, TensorBoard, WandB, read_records
from tangential.telemetry.sinks import scalars

HOSTILE = '<script>alert(1)</script>"\\\n\u2028\ud800/../../etc\x00.weight'


def record(step, name="conv.weight", angle=0.123456789):
    own = {"kind": "channel", "blocks": 8, "norm": 2.0, "angle": angle, "projected": True, "flips": 3}
    levels = {"q10": 0.1, "median": 0.2, "q90": 0.3}
    return {"step": step, "epoch": 1, "summary": {"angle": levels}, "weights": {name: own}}


def trained(sinks, steps=4, every=2, **settings):
    net = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.1)
    with watch(optimizer, every=every, names=net.named_parameters(), sinks=sinks, **settings) as telemetry:
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
    return telemetry


def test_the_file_holds_the_records_to_six_digits(tmp_path):
    telemetry = trained([JsonLines(tmp_path / "run")])
    found = read_records(tmp_path / "run" / "telemetry.jsonl")
    assert [x["step"] for x in found] == [2, 4]
    for read, own in zip(found, telemetry.records, strict=True):
        for key in ("norm", "angle", "effective_step", "radial_momentum", "equilibrium_angle"):
            assert read["weights"]["weight"][key] == pytest.approx(own["weights"]["weight"][key], rel=1e-5)
        assert read["summary"]["angle"]["median"] == pytest.approx(own["summary"]["angle"]["median"], rel=1e-5)
        assert set(read["weights"]["weight"]) == set(own["weights"]["weight"])


def test_a_hostile_name_is_one_key_of_one_line(tmp_path):
    sink = JsonLines(tmp_path)
    sink(record(1, HOSTILE))
    assert len(sink.path.read_bytes().splitlines()) == 1
    assert list(read_records(sink.path)[0]["weights"]) == [HOSTILE]


def test_a_line_cut_by_a_kill_does_not_count_and_is_written_over(tmp_path):
    sink = JsonLines(tmp_path)
    for step in (1, 2):
        sink(record(step))
    whole = sink.path.read_bytes()
    sink.path.write_bytes(whole[:-10])
    assert [x["step"] for x in read_records(sink.path)] == [1]
    again = JsonLines(tmp_path)
    assert sink.path.read_bytes() == whole[:-10], "another process may be writing it"
    again(record(2))
    assert sink.path.read_bytes() == whole


def test_a_line_cut_by_a_full_disk_does_not_break_the_next(tmp_path):
    sink = JsonLines(tmp_path)
    sink(record(1))
    with sink.path.open("ab") as file:
        file.write(b'{"step": 2, "epo')
    sink(record(3))
    assert [x["step"] for x in read_records(sink.path)] == [1, 3]


def test_a_resumed_run_drops_what_lies_beyond_its_checkpoint(tmp_path):
    first = trained([JsonLines(tmp_path)], steps=6)
    state = first.state_dict() | {"step": 3}
    resumed = watch(torch.optim.SGD([torch.nn.Parameter(torch.ones(2, 2))]), sinks=[JsonLines(tmp_path)])
    resumed.load_state_dict(state)
    assert [x["step"] for x in read_records(tmp_path / "telemetry.jsonl")] == [2]


def test_a_second_run_in_the_same_folder_is_refused_before_it_mixes(tmp_path):
    trained([JsonLines(tmp_path)])
    with pytest.raises(ValueError, match="has step 4 already, and step 2 came"):
        trained([JsonLines(tmp_path)])
    assert [x["step"] for x in read_records(tmp_path / "telemetry.jsonl")] == [2, 4]


@pytest.mark.parametrize(
    "content",
    [
        *(b"not json\n", b"[1]\n", b'{"epoch": 1}\n', b'{"step": true}\n', b'{"step": "1"}\n', b'{"step": 1.5}\n'),
        *(b"\n", b"\xff\xfe\x00\n", b'{"step": NaN}\n', b"[" * 100_000 + b"\n", b'{"step": ' + b"9" * 5000 + b"}\n"),
    ],
)
def test_another_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="line 1 is not"):
        JsonLines(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("steps", [(2, 1), (1, 1), (0,), (-3,)])
def test_steps_that_do_not_ascend_are_damage(tmp_path, steps):
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(b"".join(json.dumps(record(step)).encode() + b"\n" for step in steps))
    with pytest.raises(ValueError, match=rf"broken \(line {len(steps)} has step {steps[-1]} after step"):
        read_records(path)
    with pytest.raises(ValueError, match="broken"):
        JsonLines(tmp_path)


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("when", ["before", "under way"])
def test_a_link_is_never_written_through(tmp_path, exists, when):
    other, folder = tmp_path / "other", tmp_path / "run"
    if exists:
        other.write_bytes(b'{"step": 1}\n{"ste' if when == "before" else b"")
    content = other.read_bytes() if exists else None
    folder.mkdir()
    sink = JsonLines(folder) if when == "under way" else None
    (folder / "telemetry.jsonl").symlink_to(other)
    with pytest.raises((ValueError, OSError), match=r"telemetry\.jsonl"):
        if sink is None:
            JsonLines(folder)
        else:
            sink(record(1))
    assert other.exists() == exists and (not exists or other.read_bytes() == content)


def test_a_pipe_in_place_of_the_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "telemetry.jsonl")
    with pytest.raises(ValueError, match="not a regular file"):
        JsonLines(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path, monkeypatch):
    sink = JsonLines(tmp_path)
    monkeypatch.setattr(sink, "_opened", lambda flags: open("/dev/full", "wb"))  # noqa: PTH123
    with pytest.raises(OSError, match=r"No space left.*telemetry\.jsonl"):
        sink(record(1))


def test_what_is_no_number_becomes_null(tmp_path):
    w = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([w], lr=0.1)
    with watch(optimizer, every=1, sinks=[JsonLines(tmp_path)]):
        w.grad = torch.full((2, 2), math.inf)
        optimizer.step()
    text = (tmp_path / "telemetry.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["weights"]["0.0"]["angle"] is None


def test_scalars_are_numbers_under_names():
    found = scalars(record(1), weights=True)
    assert found["telemetry/angle/median"] == 0.2
    assert found["telemetry/weights/conv.weight/angle"] == 0.123456789
    assert found["telemetry/weights/conv.weight/projected"] == 1.0
    assert all(type(x) is float for x in found.values())
    assert scalars(record(1)) == {"telemetry/angle/q10": 0.1, "telemetry/angle/median": 0.2, "telemetry/angle/q90": 0.3}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(tmp_path, weights=True)
    telemetry = trained([sink])
    sink.writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    for name, value in scalars(telemetry.records[0], weights=True).items():
        assert [x.step for x in events.Scalars(name)] == [2, 4]
        assert events.Scalars(name)[0].value == pytest.approx(value, rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_what_was_written_under_names_it_takes(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would be migrated for ten seconds first
    mlflow.set_tracking_uri(tmp_path.as_uri())
    try:
        with mlflow.start_run(experiment_id=mlflow.create_experiment("telemetry")) as run:
            sink = MLflow(weights=True)
            trained([sink])
            for step, name in enumerate([HOSTILE, HOSTILE + "!", HOSTILE + "?", "..", "a//b/../c", "x" * 500], start=5):
                sink(record(step, name))
            sink({**record(20), "weights": {f"w{i}": {"angle": float(i)} for i in range(1100)}})
        client = mlflow.MlflowClient()
        history = client.get_metric_history(run.info.run_id, "telemetry/angle/median")
        assert [x.step for x in history] == [2, 4, *range(5, 11), 20]
        names = client.get_run(run.info.run_id).data.metrics
        assert sum(name.startswith("telemetry/weights/w") and name.endswith("/angle") for name in names) == 1100 + 1
        assert sum(abs(x - 0.123456789) < 1e-9 for x in names.values()) == 6, "six names, none in place of another"
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_gets_the_records_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"call wandb\.init"):
        WandB()
    run = wandb.init(mode="offline", project="test", dir=tmp_path, settings=wandb.Settings(console="off"))
    trained([WandB(weights=True, commit=True)])
    summary = dict(run.summary)
    run.finish()
    assert summary["telemetry/step"] == 4
    assert summary["telemetry/angle/median"] > 0 and summary["telemetry/weights/weight/angle"] > 0
    assert list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize("sink", [lambda: WandB(), lambda: MLflow(), lambda: TensorBoard("x")])
def test_a_missing_package_is_named(sink, monkeypatch):
    for name in ("wandb", "mlflow", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install .*tangential\[loggers\]"):
        sink()
