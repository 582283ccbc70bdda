import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import tangential.telemetry
from tangential.experiments.runs.environment import environment
from tangential.experiments.runs.files import make_folder, replace_file
from tangential.experiments.runs.folder import RunFolder, find
from tangential.experiments.settings.record import describe


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "sgd-seed0")
    folder.start({"seed": 0}, {"command": "tangential train digits"})
    return folder


def write_epochs(run, count):
    for epoch in range(1, count + 1):
        run.append({"epoch": epoch, "loss": 1 / epoch})


def test_what_was_written_is_read_back(run):
    write_epochs(run, 2)
    assert run.exists()
    assert run.settings() == {"seed": 0}
    assert run.environment() == {"command": "tangential train digits"}
    assert run.metrics() == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]


def test_folder_that_holds_nothing_yet_is_no_run(tmp_path):
    assert not RunFolder(tmp_path).exists()
    assert not RunFolder(tmp_path / "missing").exists()


def test_cut_off_last_line_does_not_count(run):
    write_epochs(run, 3)
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert [record["epoch"] for record in run.metrics()] == [1, 2]


def test_rewinding_drops_the_epochs_beyond_and_no_others(run):
    write_epochs(run, 3)
    first_two = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:2]
    run.rewind(2)
    assert (run.path / "metrics.jsonl").read_bytes() == b"".join(first_two)


def test_rewinding_to_an_epoch_that_is_not_there_is_refused(run):
    write_epochs(run, 1)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is broken \(it has 1 epochs, the checkpoint 2\); delete"):
        run.rewind(2)


@pytest.mark.parametrize(
    ("line", "why"),
    [(b"{not json\n", "line 2 is not JSON"), (b'{"epoch": 7}\n', "record of epoch 2"), (b"[]\n", "record of epoch 2")],
)
def test_broken_line_of_metrics_is_named(run, line, why):
    write_epochs(run, 1)
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(ValueError, match=f"metrics.jsonl is broken .*{why}"):
        run.metrics()


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff"])
def test_broken_settings_are_named(run, text):
    (run.path / "settings.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"settings\.json is broken .*; delete .*sgd-seed0"):
        run.settings()


def test_results_without_settings_are_no_run_to_go_on_with(run):
    write_epochs(run, 1)
    (run.path / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"settings\.json is broken \(it is missing beside metrics\.jsonl\)"):
        run.exists()


def test_number_that_json_does_not_have_is_refused_and_leaves_no_line(run):
    with pytest.raises(ValueError, match="JSON"):
        run.append({"epoch": 1, "loss": float("nan")})
    assert run.metrics() == []


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")

    def fail(file):
        file.write(b"half of the new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_runs_are_found_in_a_folder_and_by_themselves_and_once(tmp_path):
    for name in ("b-seed0", "a-seed0"):
        RunFolder(tmp_path / name).start({}, {})
    (tmp_path / "notes").mkdir()
    runs = find([tmp_path, tmp_path / "a-seed0"])
    assert [run.path.name for run in runs] == ["a-seed0", "b-seed0"]


@pytest.mark.parametrize(("name", "why"), [("missing", "no such folder"), ("", "no run in it")])
def test_folder_without_runs_is_named(tmp_path, name, why):
    with pytest.raises(ValueError, match=why):
        find([tmp_path / name])


def test_folder_that_cannot_be_written_is_named_before_anything_is_done(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file/out: Not a directory; choose another --out"):
        make_folder(tmp_path / "file" / "out")


@dataclass(frozen=True)
class Settings:
    size: int
    call: partial


def test_description_survives_json_and_holds_the_defaults():
    described = describe({"a": Settings(size=3, call=partial(environment, threads=1)), "b": (1, None, 2.5, "x")})
    assert json.loads(json.dumps(described)) == described
    assert described["a"]["size"] == 3
    assert described["a"]["call"]["arguments"] == {"threads": 1}
    assert described["b"] == [1, None, 2.5, "x"]


def test_description_of_something_that_is_no_setting_is_refused():
    with pytest.raises(TypeError, match="type object has no JSON form"):
        describe({"a": object()})


def test_environment_tells_versions_threads_and_command():
    found = environment(command="tangential train digits", threads=3)
    assert (found["command"], found["threads"]) == ("tangential train digits", 3)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["tangential"] and found["torch"] and found["cpus"] >= 1
    json.dumps(found)


def test_environment_has_no_commit_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment(command="", threads=1)["git_commit"] is None


WITHOUT_TORCH = """
import sys, types
package = types.ModuleType("tangential.telemetry")  # its own __init__ imports torch
package.__path__ = [sys.argv[1]]
sys.modules["tangential.telemetry"] = package
import tangential.experiments.runs.folder
sys.exit("torch" in sys.modules)
"""


def test_reading_runs_needs_no_torch():
    command = [sys.executable, "-c", WITHOUT_TORCH, str(Path(tangential.telemetry.__file__).parent)]
    assert subprocess.run(command, check=False).returncode == 0
