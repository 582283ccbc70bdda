"""A run that diverges does not end the others; the command ends with 1 when they are done."""

import sys

import pytest

from tangential.cli import app as cli
from tangential.experiments.runs.folder import RunFolder

COMMAND = ("train", "digits", "--smoke", "--logger", "none", "optimizers.sgd.lr=1e30")


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_others_are_trained_and_reported_when_one_diverges(command, tmp_path):
    for others in ("3 runs in", "0 runs in"):  # the second time only the one that diverged is tried again
        code, out, err = command(*COMMAND, "--out", tmp_path)
        assert code == 1
        assert err.startswith("tangential: sgd, seed 0: train_loss became nan") and err.count("\n") == 1
        assert "sgd           0 diverged: train_loss became nan" in out and others in out
        assert [len(RunFolder(tmp_path / f"{name}-seed0").metrics()) for name in ("sgd", "sgdp", "adamp")] == [0, 1, 1]
        assert (tmp_path / "report.html").exists()


def test_all_that_diverge_are_counted_and_nothing_is_reported(command, tmp_path):
    code, out, err = command(*COMMAND, "optimizers.sgdp.lr=1e18", "--only", "sgd", "--only", "sgdp", "--out", tmp_path)
    assert (code, out.count("diverged"), err.count("\n")) == (1, 2, 1)
    assert "sgd, seed 0: " in err and err.endswith("; 1 more runs diverged\n")
    assert not (tmp_path / "report.html").exists()
