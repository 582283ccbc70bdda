"""Hyperparameter search of one optimizer through Optuna, by one worker process or many.

A study in a database holds the trials. Workers take trials from it one at a time; the heartbeat of one that dies stops,
its trial is marked as failed, and a *retry* with the same settings is enqueued, which resumes from the checkpoint in
the trial's run folder. Trial numbers grow with every retry, so a trial is identified by its *root*, the number of the
first of its attempts, and by its *place* among the roots. The invariant is that every place below the number of trials
is finished exactly once, whichever workers are killed; a worker that was given a root of another one, or one too many,
drops it as `_Surplus`. Settings are drawn from the place, so that retries change none.
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

from tangential.experiments.recipes import Recipe
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.runs.lock import Held
from tangential.experiments.settings.former_names import current_names
from tangential.experiments.settings.overrides import override
from tangential.experiments.settings.record import differences
from tangential.experiments.sweep.search_space import Range
from tangential.experiments.sweep.storage import database_errors, open_storage
from tangential.experiments.sweep.unheard import Unheard
from tangential.experiments.training.signals import Stopped

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Runner = Callable[[Recipe, str, int, RunFolder], float]
"""Trains one optimizer of a recipe from one seed in a run folder; returns its final score."""


class _Surplus(Exception):
    """A trial whose root another worker has, or that is one too many."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Hyperparameter search of one optimizer.

    Args:
        recipe: The recipe; the score of a trial is the mean over its `seeds`.
        optimizer: Name of the optimizer.
        ranges: The search space.
        trials: Number of trials, of all workers together.
        storage: Database URL of SQLAlchemy, or the path of an SQLite file.
        out: Folder of the run folders.
        run: Trains a run.
        heartbeat: Seconds between heartbeats; a worker without one for twice as long counts as dead.
        check: Called between trials and while others' trials are waited for; what it raises ends the search.
    """

    recipe: Recipe
    optimizer: str
    ranges: Sequence[Range]
    trials: int
    storage: str | Path
    out: Path
    run: Runner
    heartbeat: int = 60
    check: Callable[[], None] = lambda: None

    def study(self) -> optuna.Study:
        """The study in the database, created if there is none.

        Raises:
            ValueError: The database holds another search of this name, or cannot be used.
        """
        return self._study(open_storage(self.storage, heartbeat=self.heartbeat))

    def _study(self, storage: RDBStorage) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            study_name=f"{self.recipe.name}-{self.optimizer}",
            storage=storage,
            direction="maximize" if self.recipe.task.headline.higher_is_better else "minimize",
            load_if_exists=True,
        )
        found = study.user_attrs.get("settings")
        others = [] if found is None else list(differences(_read(found), self._settings()))
        if others:
            raise ValueError(
                f"{self.storage} holds another search for {self.optimizer} ({'; '.join(others[:3])});"
                " choose another --out or --storage"
            )
        study.set_user_attr("settings", json.dumps(self._settings()))
        return study

    def work(self, shown: Callable[[FrozenTrial], None] = lambda trial: None) -> optuna.Study:
        """Run trials until all are finished, by this worker or another.

        Args:
            shown: Called with every trial that this worker finished.
        """
        with database_errors(self.storage), warnings.catch_warnings():
            storage = open_storage(self.storage, heartbeat=self.heartbeat)
            study = self._study(storage)
            unheard = Unheard(study, storage, 2 * self.heartbeat)
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            while len(_among(study, *_FINISHED)) < self.trials:
                self.check()
                if len(_originals(study)) < self.trials or _among(study, TrialState.WAITING):
                    self._take(study, shown)
                elif _among(study, TrialState.RUNNING):
                    time.sleep(min(self.heartbeat, 5) / 5)
                    fail_stale_trials(study)
                    for trial in unheard.failed():
                        _retry(study, trial.number)
                else:  # some ended by an error in an earlier call: they get another attempt
                    _retry_failed(study, self.trials)
        return study

    def _take(self, study: optuna.Study, shown: Callable[[FrozenTrial], None]) -> None:
        """Run one trial. If this process was stopped for so long that others took it for dead, its retry counts."""
        scored: list[int] = []

        def objective(trial: Trial) -> float:
            score = self._objective(trial)
            scored.append(trial.number)
            return score

        tell = [lambda _, trial: shown(trial) if trial.state in _FINISHED else None]
        try:
            study.optimize(objective, n_trials=1, catch=(_Surplus,), callbacks=tell)
        except Exception:  # Optuna's, of whatever kind, when it is to write the score of a trial that was given up
            if not scored or study.get_trials(deepcopy=False)[scored[0]].state != TrialState.FAIL:
                raise

    def watch(self, shown: Callable[[FrozenTrial], None] = lambda trial: None) -> optuna.Study:
        """Wait until all trials are finished by workers.

        Args:
            shown: Called with every trial that is finished.
        """
        with database_errors(self.storage):
            study = self.study()
            seen: set[int] = set()
            while True:
                for trial in _among(study, *_FINISHED):
                    if trial.number not in seen:
                        seen.add(trial.number)
                        shown(trial)
                if len(seen) >= self.trials:
                    return study
                self.check()
                time.sleep(min(self.heartbeat, 5) / 5)

    def _objective(self, trial: Trial) -> float:
        study = trial.study
        *earlier, own = study.get_trials(deepcopy=False)[: trial.number + 1]
        root = _root(own)
        place = sum(_root(each) == each.number < root for each in earlier)
        if root == trial.number:
            surplus = place >= self.trials
        else:
            surplus = any(_root(each) == root and each.state != TrialState.FAIL for each in earlier)
        if surplus:
            raise _Surplus
        study.sampler = optuna.samplers.TPESampler(seed=place)  # makes the search of a single worker repeatable
        recipe = self.recipe
        for each in self.ranges:
            recipe = override(recipe, each.suggest(trial))
        folder = self.out / self.optimizer
        try:
            seeds = range(recipe.seeds)
            return fmean(
                self.run(recipe, self.optimizer, seed, RunFolder(folder / f"trial{place:04d}-seed{seed}"))
                for seed in seeds
            )
        except Held as error:  # its first worker was taken for dead, and is not
            for _ in range(5):
                self.check()
                time.sleep(min(self.heartbeat, 60) / 5)
            raise _Surplus from error
        except FloatingPointError as error:  # diverged: ranks behind all trials that did not
            raise optuna.TrialPruned from error
        except Stopped:  # enqueue the retry now, without waiting for the heartbeat to stop
            study.tell(trial, state=TrialState.FAIL)
            _retry(study, trial.number)
            raise

    def _settings(self) -> dict[str, Any]:
        run = replace(self.recipe, seeds=1).settings(self.optimizer, 0)
        return {"ranges": [str(each) for each in self.ranges], "seeds": self.recipe.seeds, "run": run}


def best(study: optuna.Study) -> FrozenTrial | None:
    """The best trial that did not diverge, if any; of equally good ones that of the lowest place."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(_among(study, TrialState.COMPLETE), key=lambda each: (sign * each.values[0], _root(each)), default=None)


def _read(settings: str) -> Any:
    """Settings of a search, of this version or an earlier one; whatever else stands there as it is."""
    try:
        return current_names(json.loads(settings))
    except ValueError:
        return settings


def _among(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _originals(study: optuna.Study) -> list[FrozenTrial]:
    return [each for each in study.get_trials(deepcopy=False) if _root(each) == each.number]


def _root(trial: FrozenTrial) -> int:
    """Number of the first attempt at this trial; its own if it is no retry."""
    return trial.system_attrs.get("failed_trial", trial.number)


def _retry(study: optuna.Study, number: int) -> None:
    RetryHeartbeatStaleTrialCallback()(study, study.get_trials(deepcopy=True)[number])


def _retry_failed(study: optuna.Study, trials: int) -> None:
    """Enqueue a retry of every trial that failed and has not been finished since."""
    done = {_root(each) for each in _among(study, *_FINISHED)}
    for each in _originals(study)[:trials]:
        if each.number not in done and each.state == TrialState.FAIL:
            _retry(study, each.number)
