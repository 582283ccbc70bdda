"""Each example of a trainer trains, resumes bit for bit and is watched; the page shows its code and this outcome."""

import re

import pytest

from support.stacks import run, stacks

QUICK = {"plain_torch", "timm_script", "ignite_engine", "skorch_net", "gradient_release"}
NAMES = [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in stacks.STACKS]
ROWS = stacks.rows_of(stacks.PAGE.read_text())


@pytest.mark.filterwarnings("ignore")  # the trainers' own advice on workers, loggers and devices
@pytest.mark.parametrize("name", NAMES)
def test_trains_resumes_and_is_watched_as_the_page_has_it(two, name, tmp_path):
    found = run(name, tmp_path, two)
    assert found.trains and found.resumes and found.watched, found
    assert stacks.row(name, found) == ROWS[name]


def test_the_page_shows_the_code_that_is_run():
    assert list(ROWS) == list(stacks.STACKS)
    assert stacks.page(ROWS) == stacks.PAGE.read_text(), "run python benchmarks/stacks.py"


@pytest.mark.parametrize("name", stacks.STACKS)
def test_an_example_is_short(name):
    code = (stacks.EXAMPLES / f"{name}.py").read_text().split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40


def test_every_example_is_run():
    assert {path.stem for path in stacks.EXAMPLES.glob("*.py")} == {*stacks.STACKS, "problem"}


def test_a_run_that_lost_something_is_seen():
    good = stacks.Outcome((1.0, 0.5), 0.0, 0.2, (16, 16), True, {"w": "channel"})
    assert good.trains and good.resumes and good.watched
    lost = stacks.Outcome((1.0, 1.2), 1e-9, 0.2, (16, 8), True, {"w": "channel"})
    assert not (lost.trains or lost.resumes or lost.watched)
    assert "no, off by 1e-09" in stacks.row("plain_torch", lost)
    assert not stacks.Outcome((1.0, 0.5), 0.0, 0.0, (16, 16), True, {}).resumes, "nothing was trained after resuming"
    assert re.match(r"\| Plain torch \| \d \| yes \| bit for bit \| works \|$", stacks.row("plain_torch", good))
