"""A whole comparison of the tiny recipe, as a function that can be interrupted."""

import json

import pytest

from support.tiny_recipe import tiny
from tangential.experiments import recipes
from tangential.experiments.comparison import stages
from tangential.experiments.comparison.choices import Choices
from tangential.experiments.comparison.outcome import outcome
from tangential.experiments.comparison.register import register, registered
from tangential.experiments.comparison.work import Watcher, work
from tangential.experiments.training.devices import start
from tangential.experiments.training.signals import Stop

SMALL = {"recipe": "tiny", "trials": 3, "seeds": 3, "ranges": ("optimizers.*.lr=0.01..1",)}


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)


class Interrupting(Watcher):
    """A signal after so many steps."""

    def __init__(self, stop, steps):
        self.stop, self.left = stop, steps

    def step(self, item, training):
        self.left -= 1
        if not self.left:
            self.stop.signum = 2


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A folder with a whole comparison, for tests that read it or copy it."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(recipes.RECIPES, "tiny", tiny)
        return out, run(out)


@pytest.fixture
def compare():
    """Folder, steps until a signal (none if 0), choices -> (contest, protocol, tuning, outcome)."""
    return run


def run(out, *, steps=0, **choices):
    asked = {**SMALL, **choices}
    out.mkdir(exist_ok=True)
    stop, fabric = Stop(), start()
    found = registered(asked, out, trains=True)
    contest, protocol = found or register(Choices(**asked), out, fabric=fabric, command="tangential compare tiny")
    watcher = Interrupting(stop, steps)

    def train(items):
        work(items, fabric=fabric, check=lambda: None, stop=stop, command="", watcher=watcher)

    tuning = stages.tune(contest, protocol, out, train)
    stages.retrain(contest, protocol, tuning, out, train)
    scores = stages.test(contest, protocol, tuning, out)
    return contest, protocol, tuning, outcome(contest, protocol, tuning, scores, out)


def lasting(made):
    """A record without what a clock measured."""
    made = json.loads(json.dumps(made))
    made["protocol"].pop("cost")
    for each in made["optimizers"]:
        del each["seconds_to_target"], each["ms_per_step"]
    return made
