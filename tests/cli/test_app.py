import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console

from tangential.cli import app as cli
from tangential.cli import recipes as listing
from tangential.cli import train
from tangential.cli.options import RECIPES as RECIPE_NAMES
from tangential.cli.progress import Display
from tangential.experiments.recipes import RECIPES, digits
from tangential.experiments.recipes.jobs import jobs
from tangential.experiments.runs.checkpoint import load_checkpoint
from tangential.experiments.runs.folder import find
from tangential.experiments.training.fit import fit

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _keep_signals():
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in handlers.items():
        signal.signal(each, handler)


def bits(out):
    """All that must not depend on how often a run was stopped: checkpoints, and metrics without their times."""
    found = {}
    for run in find([out]):
        times = {"seconds", "ms_per_step"}
        metrics = [{name: value for name, value in record.items() if name not in times} for record in run.metrics()]
        state = load_checkpoint(run)
        if state is None:
            continue
        weights = {name: weight.numpy().tobytes() for name, weight in state["model"].items()}
        found[run.path.name] = (metrics, weights, state["epoch"], repr(state["objectives"]), repr(state["random"]))
    return found


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ONE_OF_EACH_TASK = ("digits", "biased-mnist-small", "bccd-ssd", "omniglot-triplet", "fsdd-harmonic", "shakespeare-txl")
"""Through the command line; `test_recipes` trains all recipes without it."""


@pytest.mark.parametrize("name", ONE_OF_EACH_TASK)
def test_smoke_run_trains_every_optimizer_and_reports(tangential, tmp_path, name):
    code, out, err = tangential("train", name, "--smoke", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert {run.path.name for run in find([tmp_path / "out"])} == {f"{each}-seed0" for each in RECIPES[name].optimizers}
    score = RECIPES[name].task.headline.name
    for file in ("report.html", f"{score}.png", "weight_norm.png", "effective_step.png"):
        assert (tmp_path / "out" / file).stat().st_size > 1000
    assert "norm" in out and "effective step" in out


@pytest.mark.parametrize(("recipe", "runs"), [("digits", 8), ("biased-mnist-small", 4)])
def test_log_has_one_line_per_run_and_fits_80_columns(tangential, tmp_path, recipe, runs):
    _, out, _ = tangential("train", recipe, "--smoke", "epochs=7", "--seeds", 2, "--out", tmp_path)
    lines = out.splitlines()
    assert sum("7/7" in line for line in lines) == runs
    assert any("loss" in line and "accuracy (%)" in line and line.endswith("left") for line in lines)
    assert not any(f"{epoch}/7" in out for epoch in range(1, 7))
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)


def test_finished_runs_are_left_alone(tangential, tmp_path):
    tangential("train", "digits", "--smoke", "--out", tmp_path)
    before = {path: data for path, data in files(tmp_path).items() if "seed" in path.parent.name}
    code, out, _ = tangential("train", "digits", "--smoke", "--out", tmp_path)
    assert code == 0
    assert "4 of 4 runs are finished already" in out
    assert {path: data for path, data in files(tmp_path).items() if "seed" in path.parent.name} == before


def test_optimizers_trained_one_by_one_make_the_same_comparison(tangential, tmp_path):
    for only in (["--only", "sgdp"], ["--only", "adamw", "--only", "adamp"], []):
        tangential("train", "digits", "--smoke", "--out", tmp_path / "parts", *only)
        found = {run.path.name.split("-")[0] for run in find([tmp_path / "parts"])}
        assert found == {"sgdp"} if "sgdp" in only else found >= {"sgdp", "adamw", "adamp"}
    tangential("train", "digits", "--smoke", "--out", tmp_path / "whole")
    for run in find([tmp_path / "whole"]):
        part = tmp_path / "parts" / run.path.name
        assert (part / "checkpoint.pt").read_bytes() == (run.path / "checkpoint.pt").read_bytes()


def test_override_reaches_the_run(tangential, tmp_path):
    tangential("train", "digits", "--smoke", "optimizers.sgd.lr=0.25", "task.net.width=2", "--out", tmp_path)
    settings = json.loads((tmp_path / "sgd-seed0" / "settings.json").read_text())
    assert settings["made_by"]["arguments"]["lr"] == 0.25
    weights = torch.load(tmp_path / "sgd-seed0" / "checkpoint.pt")["model"]
    assert weights["0.0.weight"].shape == (2, 1, 3, 3)
    environment = json.loads((tmp_path / "sgd-seed0" / "environment.json").read_text())
    assert environment["command"].startswith("tangential train digits --smoke optimizers.sgd.lr=0.25 ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "unknown recipe 'nope'; choose from: digits"),
        (["digits", "epochs=1.5"], "epochs=1.5: expected int, like 20"),
        (["digits", "epochz=1"], "the recipe has no 'epochz'; it has task, optimizers"),
        (["digits", "epochs"], "'epochs' is not an override"),
        (["digits", "epochs=0"], "epochs=0: must be at least 1"),
        (["digits", "optimizers.sgd.lr=-1"], "optimizers.sgd: Invalid learning rate: -1"),
        (["digits", "optimizers.sgdp.lr=-1"], "optimizers.sgdp: "),
        (["digits", "optimizers.adamp.betas=0.9,1"], "optimizers.adamp: "),
        (["digits", "--seeds", "0"], "seeds=0: must be at least 1"),
        (["digits", "--seeds", "many"], "--seeds"),
        (["digits", "--only", "adam"], "digits has no optimizer 'adam'; it has sgd, sgdp, adamw, adamp"),
        (["digits", "--colour"], "--colour"),
        ([], "Missing argument"),
    ],
)
def test_bad_use_is_one_line_and_code_2_and_writes_nothing(tangential, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = tangential("train", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("tangential: ") and says in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_one_line_and_code_2(tangential, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = tangential("train", "digits", "--smoke", "--out", tmp_path / "file" / "out")
    assert (code, out) == (2, "")
    assert "cannot write to" in err and "choose another --out" in err and err.count("\n") == 1


def test_folder_of_other_settings_is_one_line_and_code_2_and_keeps_its_runs(tangential, tmp_path):
    tangential("train", "digits", "--smoke", "--out", tmp_path)
    before = files(tmp_path)
    code, out, err = tangential("train", "digits", "--smoke", "epochs=3", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert "epochs: 1 there, 3 asked" in err and "choose another --out" in err and err.count("\n") == 1
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl", "checkpoint.pt"])
@pytest.mark.parametrize("content", [b"", b"\x00garbage\n"])
def test_corrupt_run_folder_is_one_line_and_code_2_and_keeps_its_files(tangential, tmp_path, name, content):
    tangential("train", "digits", "--smoke", "--out", tmp_path)
    (tmp_path / "adamw-seed0" / name).write_bytes(content)
    before = files(tmp_path)
    code, out, err = tangential("train", "digits", "--smoke", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert f"adamw-seed0/{name} is broken" in err and "delete" in err and err.count("\n") == 1
    assert files(tmp_path) == before


def test_run_that_diverges_is_one_line_and_code_1(tangential, tmp_path):
    code, _, err = tangential("train", "digits", "--smoke", "optimizers.sgd.lr=1e30", "--out", tmp_path)
    assert code == 1
    assert (
        "sgd, seed 0: train_loss became nan" in err
        and "0.0.weight" in err
        and "in step 2 (epoch 1, batch 2 of 2)" in err
        and err.count("\n") == 1
    )


def test_failure_of_our_own_is_one_line_and_points_to_debug(tangential, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(train, "fit", fail)
    code, _, err = tangential("train", "digits", "--smoke", "--out", tmp_path)
    assert (code, err) == (1, "tangential: RuntimeError: two lines; run again with --debug to see where\n")


def test_debug_shows_where_and_keeps_the_code(tangential):
    code, _, err = tangential("train", "nope", "--debug")
    assert code == 2
    assert "Traceback" in err and "unknown recipe" in err.splitlines()[-1]


def test_report_is_rebuilt_from_run_folders(tangential, tmp_path):
    tangential("train", "digits", "--smoke", "--out", tmp_path / "runs")
    page = tmp_path / "runs" / "report.html"
    before = page.read_bytes()
    page.unlink()
    code, out, err = tangential("report", tmp_path / "runs")
    assert (code, err) == (0, "")
    assert page.read_bytes() == before
    assert "sgdp" in out
    tangential("report", tmp_path / "runs", "--out", tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "report.html").read_bytes() == before


@pytest.mark.parametrize("name", ["missing", "."])
def test_report_of_no_runs_is_one_line_and_code_2(tangential, tmp_path, name):
    code, out, err = tangential("report", tmp_path / name)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_recipes_are_listed(tangential):
    code, out, _ = tangential("recipes")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert sorted(names) == sorted(RECIPES)


def listed(tangential, *arguments):
    code, out, err = tangential("recipes", "--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_recipes_are_filtered_by_task_paper_and_data(tangential, monkeypatch, tmp_path):
    monkeypatch.setenv("TANGENTIAL_DATA", str(tmp_path))
    assert list(listed(tangential, "--ready")) == ["digits"]
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"")
    assert "mnist-small" in listed(tangential, "--ready") and "imagenet9" not in listed(tangential, "--ready")
    assert {entry["task"] for entry in listed(tangential, "--task", "audio").values()} == {"Audio"}
    assert set(listed(tangential, "--paper")) == {name for name, recipe in RECIPES.items() if recipe.paper}
    assert tangential("recipes", "--task", "autio")[0] == 2


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_recipes_fit_a_terminal(monkeypatch, columns):
    screen = Console(file=io.StringIO(), force_terminal=True, no_color=True, width=columns)
    monkeypatch.setattr(listing, "console", lambda: screen)
    listing.recipes(task=None, paper=False, ready=False, as_json=False)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen.file.getvalue()).splitlines()
    assert all(len(line.rstrip()) <= columns for line in lines)
    assert all(any(line.strip().startswith(name) for line in lines) for name in RECIPES)


def test_listing_of_the_recipes_is_the_generated_one():
    assert RECIPE_NAMES.read_text() == listing.generated(), "run the command in tangential.cli.recipes"


HEAVY = {"torch", "matplotlib", "numpy", "plotly", "lightning", "jinja2", "optuna"}


LIGHT = [["--help"], [], ["--version"], ["recipes"], ["nope"], *([name, "--help"] for name in cli.COMMANDS)]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_what_needs_no_library_loads_none(arguments):
    code = "import sys; from tangential.__main__ import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


@pytest.mark.parametrize(
    ("command", "library"), [("sweep", "optuna"), ("report", "jinja2"), ("report", "torch"), ("--help", "rich")]
)
def test_missing_library_is_one_line_with_the_command_that_installs_it(command, library):
    code = f"import sys; sys.modules[{library!r}] = None; from tangential.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, command, "digits"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert re.fullmatch(
        rf"tangential: {library}[a-z.]* is not installed; run: .*'tangential\[recipes\]'\n", done.stderr
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_begins_with_its_line_in_the_list(tangential, name):
    (code, out, err), (_, listed, _) = tangential(name, "--help"), tangential("--help")
    assert (code, err) == (0, "")
    first = " ".join(out.split("\n\n")[1].split())
    assert first and f" {name} {first}" in " ".join(listed.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_help_has_examples_that_its_command_takes(tangential, name):
    _, out, _ = tangential(name, "--help")
    examples = [line.strip() for line in out[out.index("Examples:") :].splitlines()[1:]]
    assert examples
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("tangential", name)
        options = [each for each in arguments if each.startswith("--")]
        assert all(f"  {option} " in out for option in options), example
    assert "<int" not in out and "<float" not in out


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["train", "digts"], "digits"),
        (["train", "digits", "optimizers.sgdpp.lr=1"], "sgdp"),
        (["train", "digits", "optimizers.sgdp.lrr=1"], "lr"),
        (["train", "digits", "epoch=1"], "epochs"),
        (["train", "digits", "--only", "adampp"], "adamp"),
        (["train", "digits", "--seed", "1"], "--seeds"),
        (["sweep", "digist"], "digits"),
        (["doctor", "torchvision:resnet51"], "resnet"),
    ],
)
def test_mistyped_names_are_answered_with_the_closest(tangential, arguments, meant):
    code, out, err = tangential(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(rf"[Dd]id you mean '?{meant}", err) or f"Possible options: {meant}" in err


@pytest.mark.parametrize(
    ("words", "completed"),
    [("tangential tr", "train"), ("tangential train shakespeare-txl-", "shakespeare-txl-wn")],
)
def test_shell_completion_knows_commands_and_recipes(words, completed):
    asked = {"_TANGENTIAL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; sys.argv = ['tangential']; from tangential.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == [completed]


def test_no_color_and_dumb_terminals_get_plain_text(tmp_path):
    command = [sys.executable, "-m", "tangential", "recipes"]
    for setting in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **setting}, check=True)
        assert "\x1b" not in done.stdout


def test_help_names_the_commands(tangential):
    for arguments in ([], ["--help"]):
        code, out, _ = tangential(*arguments)
        assert code == 0
        assert all(name in out for name in ("train", "recipes", "report", "--version"))


def test_terminal_shows_the_run_under_way(tmp_path):
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    todo = jobs(digits, tmp_path)
    record = {"train_loss": 0.25, "test_accuracy": 0.875, "weight_norm": 3.5, "effective_step": 0.012}
    with Display(screen, todo) as display:
        display.epoch(todo[1], {"epoch": 7, **record})
    shown = screen.file.getvalue()
    for text in ("sgdp", "7/20", "0.2500", "87.50", "3.50", "1.2e-02"):
        assert text in shown


def test_version_is_that_of_the_package(tangential):
    assert tangential("--version") == (0, f"tangential {cli.__version__}\n", "")


ARGUMENTS = ["train", "digits", "--smoke", "epochs=10"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a command that was left alone."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(sys, "argv", ["tangential", *ARGUMENTS, "--out", str(out)])
        cli.run()
    return out


@pytest.mark.parametrize(
    ("sent", "word", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_stopped_command_says_how_to_resume_and_resumes_bit_for_bit(
    tangential, tmp_path, monkeypatch, whole, sent, word, code
):
    def stop_in_the_second_run(plan, folder, *, progress, **way):
        def shown(training):
            progress(training)
            seen.append(training)
            if len(seen) == 33:  # in the middle of an epoch
                signal.raise_signal(sent)

        return fit(plan, folder, progress=shown, **way)

    seen = []
    monkeypatch.setattr(train, "fit", stop_in_the_second_run)
    # tests that are started in the background are told to ignore Ctrl-C; a command in the foreground is not
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped = tangential(*ARGUMENTS, "--out", tmp_path)
    assert stopped[::2] == (code, f"tangential: {word}; to resume: tangential {' '.join(ARGUMENTS)} --out {tmp_path}\n")
    assert bits(tmp_path) != bits(whole)
    assert tangential(*ARGUMENTS, "--out", tmp_path)[0] == 0
    assert bits(tmp_path) == bits(whole)


def test_killed_command_resumes_bit_for_bit(tangential, tmp_path, whole):
    command = [sys.executable, "-m", "tangential", *ARGUMENTS, "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and sum(p.read_bytes().count(b"\n") for p in tmp_path.glob("*/metrics.jsonl")) < 13:
        time.sleep(0.002)
    process.kill()
    assert (process.communicate()[1], process.returncode) == ("", -signal.SIGKILL)
    assert bits(tmp_path) != bits(whole)
    assert tangential(*ARGUMENTS, "--out", tmp_path)[0] == 0
    assert bits(tmp_path) == bits(whole)
