"""What reaches the terminal: no control character of any name, whatever printed it; tables that fit."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings

import pytest
from rich.live import Live
from rich.text import Text

from support.hostile_folders import ESCAPES
from support.run_folders import log, write_run
from tangential.cli import app as cli
from tangential.cli import terminal
from tangential.cli.report import show
from tangential.experiments.report.comparison import gather_folders
from tangential.experiments.report.text import escaped

pytestmark = pytest.mark.slow

BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def tangential(monkeypatch, capsys):
    """The command, run in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            cli.run()
        signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


def evil_run(out):
    run = write_run(out, ESCAPES, 0, [], epochs=1, compared={ESCAPES: None}, recipe=ESCAPES)
    run.append({"epoch": 1, "train_loss": 1.0, f"test_{ESCAPES}": 0.5})
    return run


def test_names_in_a_run_folder_do_not_command_the_terminal(tangential, tmp_path):
    evil_run(tmp_path / ESCAPES.replace("/", ""))
    broken = write_run(tmp_path / ESCAPES, f"{ESCAPES}2", 0, [0.5])
    broken.telemetry.write_text("[]\n")
    code, out, err = tangential("report", tmp_path / ESCAPES)
    assert (code, err) == (0, "")
    assert not BAD.search(out)
    assert r"\x1b[2J\x1b]0;owned\x07\r\n" in out.replace("\n", "")
    assert "Left out: " in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", f"missing{ESCAPES}"],
        ["train", f"digits{ESCAPES}"],
        ["train", "digits", f"{ESCAPES}=1"],
        ["train", "digits", "--only", ESCAPES],
        ["train", "digits", f"--{ESCAPES}"],
        ["inspect", f"torchvision:{ESCAPES}"],
        ["toy", "2d", "--optimizer", ESCAPES],
        ["neighbours", f"missing{ESCAPES}"],
        [ESCAPES],
    ],
    ids=lambda arguments: arguments[0][:8].strip(),
)
def test_names_in_errors_do_not_command_the_terminal(tangential, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    for debug in ([], ["--debug"]):
        code, out, err = tangential(*arguments, *debug)
        assert (code, out) == (2, "")
        assert not BAD.search(err)
        assert debug or err.count("\n") == 1


def test_names_in_event_files_do_not_command_the_terminal(tangential, tmp_path):
    log(tmp_path / f"run{ESCAPES}", {f"loss{ESCAPES}": [1.0], f"nan{ESCAPES}": [float("nan")]})
    code, out, err = tangential("report", "--tensorboard", tmp_path, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert not BAD.search(out)
    assert "NaN or infinite" in out


def test_all_that_a_console_prints_is_escaped_and_its_own_codes_stay():
    shown = io.StringIO()
    out = terminal.console(file=shown, force_terminal=True, width=200)
    out.print(ESCAPES)
    out.print(Text(ESCAPES, style="bold"))
    out.print({"key": ESCAPES})
    terminal.print_line(out, ESCAPES)
    out.print(terminal.table([ESCAPES, "b"], [[ESCAPES, f"{ESCAPES}\n[1, 2]"]]))
    with Live(Text(ESCAPES), console=out):
        out.print("beside")
    text = shown.getvalue()
    assert "\x1b[1m" in text, "bold is the console's own"
    assert not any(code in text for code in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e", "\u2028", "\x9b"))
    assert text.count(escaped(ESCAPES)) >= 4


def test_table_stays_straight_with_escaped_names():
    shown = io.StringIO()
    out = terminal.console(file=shown, width=100)
    out.print(terminal.table(["name", "value"], [["\x1b[2J", "1"], ["plain", "2"]]))
    first, second = shown.getvalue().splitlines()[-2:]
    assert first.rstrip().rindex("1") == second.rstrip().rindex("2")


def test_warnings_and_log_are_one_escaped_line_each(capsys):
    with terminal.notices("tangential"):
        warnings.simplefilter("always")
        warnings.warn(f"two\nlines {ESCAPES}", UserWarning, stacklevel=1)
        logging.getLogger("tangential").warning("of %s", ESCAPES)
        logging.getLogger("tangential").info("not shown")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("tangential: two lines ") and second.startswith("tangential: of ")
    assert not BAD.search(first + second)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_report_fits_the_terminal(tmp_path, width):
    for optimizer in ("sgd", "sgdp"):
        for seed in range(3):
            write_run(tmp_path, optimizer, seed, [0.5, 0.7 + seed / 100])
    shown = io.StringIO()
    show(terminal.console(file=shown, width=width), gather_folders([tmp_path]), tmp_path / "out")
    lines = [line for line in shown.getvalue().splitlines() if str(tmp_path) not in line]
    assert all(len(line) <= width for line in lines)
    text = shown.getvalue()
    for cell in ("71.00 ± 1.00", "1.00 → 2.00", "ms/step", "+0.00 ± 0.00"):
        assert cell in text


def test_page_of_a_report_is_named_in_one_line(tangential, tmp_path):
    write_run(tmp_path / ("long" * 40), "sgd", 0, [0.5])
    _, out, _ = tangential("report", tmp_path / ("long" * 40))
    assert f"{tmp_path / ('long' * 40)}/report.html" in out.splitlines()


def test_exit_code_of_a_report_with_runs_left_out_is_0_and_of_none_is_2(tangential, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").write_text("")
    code, out, err = tangential("report", tmp_path)
    assert (code, out) == (2, "") and "settings.json" in err and err.count("\n") == 1
    write_run(tmp_path, "sgd", 0, [0.5])
    code, out, err = tangential("report", tmp_path)
    assert (code, err) == (0, "")
    assert f"Left out: {tmp_path}/empty/settings.json" in out.replace("\n", "").replace(" is", " is")
    json.loads((tmp_path / "run-1" / "settings.json").read_text())


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_closed_stream_is_no_error(stream):
    code = f"import sys; sys.{stream} = None; from tangential.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "recipes"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["recipes"], ["--help"], ["report", "{}"]])
def test_locale_without_utf8_shows_question_marks(tmp_path, command):
    write_run(tmp_path, "sgd", 0, [0.5, 0.6])
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "tangential", *(word.format(tmp_path) for word in command)]
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
def test_full_disk_under_standard_output_is_one_line_and_code_2():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "tangential", "recipes"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "tangential: input or output: No space left on device\n")
