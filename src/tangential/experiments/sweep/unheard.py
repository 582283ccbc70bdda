"""Trials whose worker was killed before its first heartbeat.

Optuna takes a worker for dead when its heartbeats stop; of a trial that has none yet it never does, and the search
would wait for it for ever. A worker that has nothing else to do therefore notes since when it sees such a trial.
"""

from __future__ import annotations

import time

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tangential.experiments.sweep.storage import heard


class Unheard:
    """Running trials without a heartbeat, as one worker sees them.

    Args:
        study: The search.
        storage: Its database.
        patience: Seconds after which such a trial is given up.
    """

    def __init__(self, study: optuna.Study, storage: RDBStorage, patience: float) -> None:
        self._study = study
        self._storage = storage
        self._patience = patience
        self._since: dict[int, float] = {}

    def failed(self) -> list[FrozenTrial]:
        """Mark those as failed that were seen for too long; of several workers one gets each."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        known = heard(self._storage)
        now = time.monotonic()
        self._since = {
            each.number: self._since.get(each.number, now) for each in running if each._trial_id not in known
        }
        late = [each for each in running if now - self._since.get(each.number, now) >= self._patience]
        return [each for each in late if self._fail(each)]

    def _fail(self, trial: FrozenTrial) -> bool:
        try:
            self._study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):  # it is finished, or another one was quicker
            return False
        return True
