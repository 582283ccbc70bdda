"""`tangential compare` from the command line: stages, what it prints, and what it refuses."""

import json
import sys

import pytest

from support.tiny_recipe import tiny
from tangential.cli import app as cli
from tangential.experiments import recipes

SMALL = ("compare", "tiny", "optimizers.*.lr=0.01..1", "--trials", 3, "--seeds", 2, "--workers", 1)


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.mark.slow
def test_stages_run_one_by_one_and_each_continues_the_one_before(command, tmp_path):
    code, _, err = command("compare", "tiny", "--stage", "tune", "--out", tmp_path)
    assert (code, "nothing is registered there" in err) == (2, True)
    code, out, _ = command(*SMALL, "--out", tmp_path, "--stage", "register")
    assert code == 0 and "sgd, sgdp: 3 trials each (3 of lr)" in out
    assert "6 runs to tune, 6 from 2 fresh seeds" in out and "minutes" in out
    assert {path.name for path in tmp_path.iterdir()} == {"protocol.json"}
    code, _, err = command("compare", "tiny", "--stage", "retrain", "--out", tmp_path)
    assert code == 2 and "is not finished" in err
    rest = ("compare", "tiny", "--out", tmp_path, "--workers", 1)
    code, out, _ = command(*rest, "--stage", "tune")
    assert code == 0 and out.count("\ntune ") >= 6 and not (tmp_path / "retrained").exists()
    code, out, _ = command(*rest, "--stage", "retrain")
    assert code == 0 and out.count("\nretrain ") == 6 and "other rounding" in out
    assert command(*rest, "--stage", "test")[0] == 0 and (tmp_path / "scores.json").exists()
    code, out, _ = command(*rest)
    assert code == 0 and "\ntune " not in out and "\nretrain " not in out
    assert "sgdp against sgd: too few seeds to tell (" in out
    for name in ("comparison.html", "comparison.json", "retrained/report.html"):
        assert (tmp_path / name).stat().st_size > 1000
    registered = json.loads((tmp_path / "protocol.json").read_text())
    assert registered["environment"]["command"].startswith(
        "tangential compare tiny 'optimizers.*.lr=0.01..1' --trials 3"
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--budget", "0.0001"), "trials=3 and budget=0.0001: a budget decides the trials"),
        (("--held-out", "1.5"), "share=1.5: must be between 0 and 1"),
        (("--only", "adamp"), "tiny has no projected optimizer adamp; it has sgdp"),
        (("--margin", "-1"), "margin=-1.0: must be more than 0"),
        (("--seeds", "1"), "seeds=1: must be at least 2"),
        (("optimizers.*.momentum=0.1..0.9",), "3 trials are fewer than the 9"),
        (("epochs=0",), "epochs=0: must be at least 1"),
    ],
)
def test_bad_choices_are_one_line_before_anything_is_written(command, tmp_path, more, says):
    code, _, err = command(*SMALL, *more, "--out", tmp_path / "out")
    assert code == 2 and says in err and err.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_budget_without_room_names_the_time_that_is_needed(command, tmp_path):
    code, _, err = command("compare", "tiny", "--budget", "0.0001", "--out", tmp_path)
    assert code == 2 and "the smallest search, 9 trials of each of 2 optimizers" in err
    assert not list(tmp_path.iterdir())


def test_another_command_in_the_same_folder_is_refused(command, tmp_path):
    command(*SMALL, "--out", tmp_path, "--stage", "register")
    code, _, err = command("compare", "tiny", "--out", tmp_path, "--seeds", 8)
    assert code == 2 and "seeds: 2 registered, 8 asked" in err
