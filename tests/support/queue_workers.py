"""Workers of a sweep's queue, forked from one process that has loaded everything.

`python queue_workers.py STORAGE FOLDER` prints a JSON object: `popped`, the waiting trials that each of four processes
took; and of a search by three workers, one of which kills itself in the middle of a trial, after another one was killed
before the first heartbeat of its trial: `ran`, `finished`, `unfinished`, `values`, `killed` and `waited`.
"""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import optuna

from tangential.experiments.recipes import digits
from tangential.experiments.sweep.search_space import read_ranges
from tangential.experiments.sweep.storage import open_storage
from tangential.experiments.sweep.study import Sweep

WAITING, TAKERS, TRIALS, WORKERS, HEARTBEAT = 40, 4, 12, 3, 1

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.ERROR)


def forked(number, do, out):
    """Run a function in so many processes that begin together; what each returned, None of one that was killed."""
    begin = time.time() + 0.3
    children = []
    for each in range(number):
        child = os.fork()
        if not child:
            time.sleep(max(0.0, begin - time.time()))
            (out / f"{do.__name__}{each}.json").write_text(json.dumps(do(each)))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    written = [out / f"{do.__name__}{each}.json" for each in range(number)]
    return [json.loads(path.read_text()) if path.exists() else None for path in written]


def main(where, out):
    storage = open_storage(where, heartbeat=60)
    study = optuna.create_study(study_name="queue", storage=storage)
    for number in range(WAITING):
        study.enqueue_trial({"x": number})
    storage.remove_session()
    storage.engine.dispose()

    def pop(_):
        waiting = optuna.load_study(study_name="queue", storage=open_storage(where, heartbeat=60))
        return list(iter(waiting._pop_waiting_trial_id, None))

    search = Sweep(
        recipe=digits, optimizer="sgd", trials=TRIALS, storage=where, out=out, run=lambda *_: 0.0, heartbeat=HEARTBEAT,
        ranges=read_ranges(digits, ["optimizers.sgd.lr=1e-3..1", "optimizers.sgdp.lr=1e-3..1"])["sgd"],
    )  # fmt: skip

    def work(number):
        ran = []

        def run(recipe, optimizer, seed, folder):
            if number == 0 and len(ran) == recipe.seeds:  # the first seed of its second trial
                (out / "killed").write_text(json.dumps([folder.path.name, time.time()]))
                os.kill(os.getpid(), signal.SIGKILL)
            ran.append([folder.path.name, time.time()])
            time.sleep(0.04)
            return recipe.optimizers["sgd"].keywords["lr"]

        Sweep(**{**vars(search), "run": run}).work()
        return ran

    popped = forked(TAKERS, pop, out)
    search.study().ask()  # a trial that runs, without a heartbeat
    ran = forked(WORKERS, work, out)
    name, killed = json.loads((out / "killed").read_text())
    again = [began for each in ran if each for folder, began in each if folder == name]
    trials = search.study().get_trials()
    sys.stdout.write(json.dumps({
        "popped": popped,
        "ran": [each and [name for name, _ in each] for each in ran],
        "finished": [t.system_attrs.get("failed_trial", t.number) for t in trials if t.state.name == "COMPLETE"],
        "unfinished": [t.number for t in trials if not t.state.is_finished()],
        "values": [[t.params["optimizers.sgd.lr"], t.value] for t in trials if t.state.name == "COMPLETE"],
        "killed": name,
        "waited": [began - killed for began in again],
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]), Path(sys.argv[2]))
