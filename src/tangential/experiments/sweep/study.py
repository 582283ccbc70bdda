"""Tuning each optimizer of a recipe with the same number of trials, by one process or many, through Optuna.

A study in a database holds the trials of one optimizer. Workers take trials from it one at a time; one that dies stops
its heartbeat, and another worker takes its trial over with the same settings, from its run folder's checkpoint. So
every trial is finished once, whoever is killed.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from tangential.experiments.recipes import Recipe
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.overrides import override
from tangential.experiments.sweep.search_space import Range
from tangential.experiments.training.signals import Stopped

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Runner = Callable[[Recipe, str, int, RunFolder], float]
"""Trains one optimizer of a recipe from one seed in a folder, and gives its final score."""


class _Surplus(Exception):
    """A trial that another worker has taken, or that is one too many."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The search of one optimizer's settings.

    Args:
        recipe: What is trained; its `seeds` are those that a trial's score is the mean over.
        optimizer: Which of its optimizers.
        ranges: What is searched.
        trials: How many settings are tried, by all workers together.
        storage: A database URL, as SQLAlchemy has them.
        out: Folder of the run folders.
        run: Trains.
        heartbeat: Seconds between two signs of life; a worker that gives none for twice as long counts as dead.
    """

    recipe: Recipe
    optimizer: str
    ranges: Sequence[Range]
    trials: int
    storage: str
    out: Path
    run: Runner
    heartbeat: int = 60

    def study(self) -> optuna.Study:
        """Open the study, or begin it.

        Raises:
            ValueError: The database holds another search of this name.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            study_name=f"{self.recipe.name}-{self.optimizer}",
            storage=self._storage(),
            direction="maximize" if self.recipe.task.headline.higher_is_better else "minimize",
            load_if_exists=True,
        )
        searched = json.dumps(self._settings())
        if study.user_attrs.get("settings", searched) != searched:
            raise ValueError(
                f"{self.storage} holds another search for {self.optimizer} ({study.user_attrs['settings'][:200]});"
                " choose another --out or --storage"
            )
        study.set_user_attr("settings", searched)
        return study

    def work(self, shown: Callable[[FrozenTrial], None] = lambda trial: None) -> optuna.Study:
        """Take trials until all are finished, by this worker or another.

        Args:
            shown: Called with every trial that this worker finished.
        """
        study = self.study()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            while len(_among(study, *_FINISHED)) < self.trials:
                if len(_originals(study)) < self.trials or _among(study, TrialState.WAITING):
                    tell = [lambda _, trial: shown(trial) if trial.state in _FINISHED else None]
                    study.optimize(self._objective, n_trials=1, catch=(_Surplus,), callbacks=tell)
                elif _among(study, TrialState.RUNNING):
                    time.sleep(min(self.heartbeat, 5) / 5)
                    fail_stale_trials(study)
                else:  # an error ended some, which is mended now
                    _retry_failed(study, self.trials)
        return study

    def _objective(self, trial: Trial) -> float:
        study = trial.study
        *earlier, own = study.get_trials(deepcopy=False)[: trial.number + 1]
        root = _root(own)
        if root == trial.number:
            surplus = sum(_root(each) == each.number for each in earlier) >= self.trials
        else:
            surplus = any(_root(each) == root and each.state != TrialState.FAIL for each in earlier)
        if surplus:
            raise _Surplus
        study.sampler = optuna.samplers.TPESampler(seed=trial.number)  # alone, a worker finds the same again
        recipe = self.recipe
        for each in self.ranges:
            recipe = override(recipe, each.suggest(trial))
        folder = self.out / self.optimizer
        try:
            seeds = range(recipe.seeds)
            return fmean(
                self.run(recipe, self.optimizer, seed, RunFolder(folder / f"trial{root:04d}-seed{seed}"))
                for seed in seeds
            )
        except FloatingPointError as error:  # it diverged: worse than any that did not
            raise optuna.TrialPruned from error
        except Stopped:  # give it back at once
            study.tell(trial, state=TrialState.FAIL)
            _retry(study, trial.number)
            raise

    def _storage(self) -> RDBStorage:
        waiting = {"connect_args": {"timeout": 60}} if self.storage.startswith("sqlite") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _patiently(
                lambda: RDBStorage(
                    self.storage,
                    engine_kwargs=waiting,
                    heartbeat_interval=self.heartbeat,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                )
            )

    def _settings(self) -> dict[str, Any]:
        whole = replace(self.recipe, seeds=1).settings(self.optimizer, 0)
        return {"ranges": [str(each) for each in self.ranges], "seeds": self.recipe.seeds, "run": whole}


def best(study: optuna.Study) -> FrozenTrial | None:
    """Give the best trial that did not diverge, if any."""
    return study.best_trial if _among(study, TrialState.COMPLETE) else None


def _patiently(connect: Callable[[], RDBStorage]) -> RDBStorage:
    """Connect to a database, again if another worker is making its tables at this moment.

    Raises:
        ValueError: It cannot be reached; the error says why.
    """
    for _ in range(9):
        try:
            return connect()
        except (IntegrityError, OperationalError):
            time.sleep(1)
    try:
        return connect()
    except SQLAlchemyError as error:
        raise ValueError(f"--storage: {str(error).splitlines()[0]}") from error


def _among(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _originals(study: optuna.Study) -> list[FrozenTrial]:
    return [each for each in study.get_trials(deepcopy=False) if _root(each) == each.number]


def _root(trial: FrozenTrial) -> int:
    """The number of the trial that this one takes over, or its own."""
    return trial.system_attrs.get("failed_trial", trial.number)


def _retry(study: optuna.Study, number: int) -> None:
    RetryHeartbeatStaleTrialCallback()(study, study.get_trials(deepcopy=True)[number])


def _retry_failed(study: optuna.Study, trials: int) -> None:
    """Begin again every trial that failed and that no later one took over."""
    done = {_root(each) for each in _among(study, *_FINISHED)}
    for each in _originals(study)[:trials]:
        if each.number not in done and each.state == TrialState.FAIL:
            _retry(study, each.number)
