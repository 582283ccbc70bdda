"""One Ctrl-C or SIGTERM at any step of `train` and `sweep`: obeyed within the step, and resumed bit for bit."""

import random
import signal
import sys

import pytest

from support.run_bits import bits
from tangential.cli import app as cli
from tangential.cli import sweep, train
from tangential.experiments.training.fit import fit

pytestmark = pytest.mark.slow

TRAIN = ("train", "digits", "--smoke", "epochs=3", "--only", "sgd", "--only", "adamp", "--logger", "none")
SWEEP = ("sweep", "digits", "--smoke", "epochs=3", "optimizers.sgd.lr=1e-2..1", "optimizers.sgdp.lr=1e-2..1")
SWEEP += ("--trials", "1", "--on", "test")
STEPS = 12
"""Steps of either command: two runs of three epochs of two batches."""

DRAWN = random.Random(20261127)
PLACES = [1, DRAWN.randrange(2, 6), 6, DRAWN.randrange(8, 12), STEPS]
"""The first step, one of the first run, the last of an epoch and run, one of the last run, the very last."""


@pytest.fixture(autouse=True)
def _handlers():
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore Ctrl-C
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def command(monkeypatch, capsys):
    """A command in this process: arguments -> (exit code, error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.fixture(scope="module", params=["train", "sweep"])
def whole(request, tmp_path_factory):
    """A command that was left alone: its module, its arguments, and what it made."""
    module, arguments = {"train": (train, TRAIN), "sweep": (sweep, SWEEP)}[request.param]
    out = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(sys, "argv", ["tangential", *arguments, "--out", str(out)])
        cli.run()
    assert ended.value.code == 0
    return module, arguments, bits(out)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_is_obeyed_within_the_step_and_the_command_resumes_bit_for_bit(
    command, monkeypatch, tmp_path, whole, place, sent, code
):
    module, arguments, expected = whole
    steps = []

    def signalled(plan, folder, *, progress=lambda training: None, **options):
        def step(training):
            progress(training)
            if training.step not in steps[-1:]:  # the pauses of the test are no steps
                steps.append(training.step)
                if len(steps) == place:
                    signal.raise_signal(sent)

        return fit(plan, folder, progress=step, **options)

    with monkeypatch.context() as patched:
        patched.setattr(module, "fit", signalled)
        ended, error = command(*arguments, "--out", tmp_path)
    assert (ended, len(steps)) == (code, place)
    assert error.startswith("tangential: ") and "; to resume: tangential" in error and error.count("\n") == 1
    assert bits(tmp_path) != expected
    assert command(*arguments, "--out", tmp_path)[0] == 0
    assert bits(tmp_path) == expected
