"""The command `report`: what it refuses, and that it serves until it is told to stop."""

import io
import re
import signal
import subprocess
import sys
import urllib.request
from html import unescape
from urllib.parse import unquote

import pytest
from rich.console import Console

from support.run_folders import log, write_run
from tangential.cli import app as cli
from tangential.cli.options import path
from tangential.cli.report import show
from tangential.experiments.report.comparison import gather
from tangential.experiments.runs.folder import find

pytestmark = pytest.mark.slow


@pytest.fixture
def tangential(monkeypatch, capsys):
    """The command, run in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", "report", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            cli.run()
        signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


def test_event_files_become_a_table_a_page_and_pictures(tangential, tmp_path):
    log(tmp_path / "logs" / "<b>one", {"val/acc": [0.25, 0.5]})
    code, out, err = tangential("--tensorboard", tmp_path / "logs", "--out", tmp_path / "page")
    assert (code, err) == (0, "")
    assert "<b>one" in out
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == ["report.html", "val-acc.png"]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["<b>one"]


@pytest.mark.parametrize(("width", "parts"), [(60, 3), (80, 2), (200, 1)])
def test_wide_table_is_cut_between_columns(tmp_path, width, parts):
    for optimizer in ("sgd", "sgdp"):
        run = write_run(tmp_path, optimizer, 0, [0.5], epochs=2)
        scores = {"test_accuracy": 0.5, "test_ap75": 0.25, "test_roc_auc": 0.75, "test_recall_at_1": 0.125}
        run.append({"epoch": 2, "train_loss": 1.0, "weight_norm": 1.0, "ms_per_step": 2.0, **scores})
    console = Console(width=width, record=True, file=io.StringIO())
    show(console, gather(find([tmp_path])), tmp_path / "out")
    text = console.export_text()
    assert text.count("\noptimizer") + text.startswith("optimizer") == parts == text.count("\nsgdp ")
    assert all(len(line) <= width for line in text.splitlines() if str(tmp_path) not in line)
    for shown in ("AP75 (%)", "25.00", "ROC AUC (%)", "75.00", "recall at 1 (%)", "12.50", "ms/step"):
        assert text.count(shown) == 1 + (shown[0].isdigit())


@pytest.mark.parametrize("place", ["runs", "elsewhere", "runs/<i> one"])
def test_pages_in_run_folders_are_linked_from_the_report(tangential, tmp_path, place):
    written = write_run(tmp_path / "runs" / "<i> one", "sgd", 0, [0.5]).path / "neighbours.html"
    written.write_text("found")
    for _ in range(2):  # the second finds the report of the first
        tangential(tmp_path / "runs" / "<i> one", "--out", tmp_path / place)
        html = (tmp_path / place / "report.html").read_text()
        (address,) = re.findall('<a href="([^"#]+)">sgd, seed 0: neighbours</a>', html)
        assert "<" not in address
        assert (tmp_path / place / unquote(unescape(address))).read_text() == "found"
    assert "seed 0: report" not in html


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name run folders, or --tensorboard"),
        (["{}", "--tensorboard", "{}"], "one of the two"),
        (["{}", "--serve", "--out", "{}"], "writes nothing"),
        (["--tensorboard", "{}", "--serve"], "follows run folders"),
        (["{}/missing", "--serve"], "no such folder"),
        (["{}", "--serve", "--port", "70000"], "port 70000"),
        (["{}", "--serve", "--port", "x"], "Invalid value for '--port'"),
        (["--tensorboard", "{}"], "no event file"),
    ],
)
def test_bad_use_is_one_line_and_code_2(tangential, tmp_path, arguments, said):
    code, out, err = tangential(*(argument.format(tmp_path) for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def _heed_interrupts():
    """A shell's background jobs, and what they start, ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_served_until_interrupted(tmp_path):
    write_run(tmp_path, "sgd", 0, [0.5], epochs=3)
    command = [sys.executable, "-m", "tangential", "report", str(tmp_path), "--serve", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    )
    with process:
        url, *_ = process.stdout.readline().split()
        with urllib.request.urlopen(f"{url}live", timeout=60) as answer:
            assert "epoch 1 of 3" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "command", ["train digits --smoke", "sweep digits --smoke", "toy 2d", "inspect torchvision:resnet18"]
)
def test_home_folder_and_empty_paths_of_every_command(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/runs") == tmp_path / "runs"
    found = subprocess.run(
        [sys.executable, "-m", "tangential", *command.split(), "--out="], capture_output=True, text=True, check=False
    )
    assert (found.returncode, "an empty path" in found.stderr) == (2, True)
