"""A sweep's queue: a waiting trial is taken by one worker, and one whose worker is killed is finished by another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import postgresql, queue_workers
from tangential.experiments.recipes import digits
from tangential.experiments.sweep.storage import check_shared, open_storage

pytestmark = pytest.mark.slow


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def storage(request, tmp_path):
    if request.param == "SQLite":
        yield str(tmp_path / "sweep.db")
    elif reason := postgresql.why_not():
        pytest.skip(reason)
    else:
        with postgresql.server() as url:
            yield url


def test_every_trial_is_taken_once_and_survives_its_worker(storage, tmp_path):
    command = [sys.executable, queue_workers.__file__, storage, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    taken = [trial for each in found["popped"] for trial in each]
    assert len(taken) == len(set(taken)) == queue_workers.WAITING
    assert len(found["finished"]) == len(set(found["finished"])) == queue_workers.TRIALS and not found["unfinished"]
    for rate, value in found["values"]:
        assert value == pytest.approx(rate)
    killed, *survivors = found["ran"]
    assert killed is None and all(survivors)
    runs = [name for each in survivors for name in each]
    assert "trial0000-seed0" in runs  # its worker was killed before the first heartbeat
    assert len(runs) == len(set(runs)) >= digits.seeds * (queue_workers.TRIALS - 1)
    assert found["killed"] in runs
    (waited,) = found["waited"]
    assert waited <= 2 * queue_workers.HEARTBEAT + 5  # and the time to look and to begin, on a busy machine


@pytest.mark.parametrize("url", ["redis://host:6379/0", "grpc://host:13000", "journal:///runs/sweep.log"])
def test_a_storage_without_heartbeats_is_refused(url):
    with pytest.raises(ValueError, match=r"keeps no heartbeats, so that a killed worker's trials would be lost"):
        open_storage(url, heartbeat=60)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused_to_several_workers(url):
    with pytest.raises(ValueError, match="in memory is seen by one process alone"):
        check_shared(url, machines=False)


@pytest.mark.parametrize("where", [Path("sweep.db"), "sqlite:////net/sweep.db", "sqlite+pysqlite:///s.db"])
def test_sqlite_is_for_one_machine(where):
    check_shared(where, machines=False)
    with pytest.raises(ValueError, match=r"SQLite is for the processes of one machine.* give --storage postgresql"):
        check_shared(where, machines=True)
    check_shared("postgresql+psycopg://user@host/name", machines=True)
