"""Loggers beside the run folder: whole after a kill, and refused by name."""

import csv
import errno
import os
import threading
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training.loggers import check_loggers, log_record, open_loggers

RECORDS = [{"epoch": epoch, "train_loss": 1 / epoch, "lr": 0.1} for epoch in (1, 2, 3)]


@pytest.fixture
def resumed(tmp_path):
    """A run that logged two epochs, lost the second, and went on."""
    folder = RunFolder(tmp_path)
    folder.start({"recipe": "digits"}, {})
    for done, records in ((0, RECORDS[:2]), (1, RECORDS[1:])):
        with open_loggers(["tensorboard", "csv"], folder, done) as opened:
            for record in records:
                log_record(opened, record)
                if record["epoch"] > len(folder.metrics()):
                    folder.append(record)
    return folder


def test_csv_holds_every_epoch_once(resumed):
    with (resumed.path / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["train_loss"])) for row in rows] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_tensorboard_shows_every_epoch_once(resumed):
    events = EventAccumulator(str(resumed.path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in events.Scalars("train_loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]


def test_each_run_has_a_wandb_run_of_its_own(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logged = []
    for name in ("sgd-seed0", "sgdp-seed0"):
        folder = RunFolder(tmp_path / name)
        folder.start({"recipe": "digits"}, {})
        with open_loggers(["wandb", "none"], folder, 0) as opened:
            log_record(opened, RECORDS[0])
            logged.append(opened[0].experiment)
        assert wandb.run is None
        assert len((folder.path / "wandb-id").read_text()) == 16
    assert logged[0] is not logged[1]


def test_unknown_logger_is_named():
    with pytest.raises(ValueError, match="logger=parchment: choose from tensorboard, wandb, csv, none"):
        check_loggers(["parchment"])


def test_full_disk_under_tensorboard_is_one_error_with_its_folder_and_no_traceback_of_a_thread(
    tmp_path, monkeypatch, capsys
):
    folder = RunFolder(tmp_path)
    folder.start({"recipe": "digits"}, {})
    hook = threading.excepthook
    with pytest.raises(OSError) as caught, open_loggers(["tensorboard"], folder, 0) as opened:
        log_record(opened, RECORDS[0])

        def full(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
        for record in RECORDS[1:] * 5:
            log_record(opened, record)
            time.sleep(0.1)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "tensorboard"))
    assert "Traceback" not in capsys.readouterr().err
    assert threading.excepthook is hook
