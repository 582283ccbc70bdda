"""The lock of a run folder: one writer, whatever else the process does with the file, and no longer than it lives."""

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from tangential.experiments.runs import lock
from tangential.experiments.runs.lock import LOCK, locked

HOLDER = """
import os, sys, time
from pathlib import Path
from tangential.experiments.runs.lock import locked
with locked(Path(sys.argv[1])):
    # a dataloader's worker may outlive its parent; the worker reports, for it closes the lock once it runs
    if sys.argv[2] == "plain" or not os.fork():
        print("held", flush=True)
    time.sleep(60)
"""


def held_by_a_process(folder, how="plain"):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), how], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("how", ["plain", "forks"])
def test_lock_ends_with_the_process_though_its_workers_live_on(tmp_path, how):
    holder = held_by_a_process(tmp_path, how)
    try:
        with pytest.raises(ValueError, match=f"is being written by process {holder.pid} on .*; wait for it, or choose"):
            with locked(tmp_path):
                pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL) if how == "forks" else holder.kill()
        holder.stdout.close()


def test_reading_the_lock_file_in_the_process_that_holds_it_does_not_free_it(tmp_path):
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()  # opened and closed
        answer = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path), "plain"], capture_output=True, text=True)
        assert f"is being written by process {os.getpid()} on" in answer.stderr


def test_second_lock_in_the_same_process_is_refused(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ValueError, match="is being written by this process already"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("text", ["process 999999999 on {host}", "process x on y", "\x1b[31m", "", "a b c d e f"])
def test_stale_or_foreign_text_accuses_nobody(tmp_path, text):
    holder = held_by_a_process(tmp_path)
    (tmp_path / LOCK).write_text(text.format(host=lock.socket.gethostname()))
    with pytest.raises(ValueError, match="is being written by another process; wait"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_a_warning_and_no_accusation(tmp_path, monkeypatch, caplog, code):
    (tmp_path / LOCK).write_text("process 4711 on otherhost\n")

    def refuse(file):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock, "_lock", refuse)
    with caplog.at_level(logging.WARNING, "tangential"), locked(tmp_path):
        pass
    assert "lock cannot be locked" in caplog.text and os.strerror(code) in caplog.text
    assert "4711" not in caplog.text


def test_lock_that_is_a_link_is_refused_and_its_target_stays(tmp_path):
    (tmp_path / "key").write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).symlink_to(tmp_path / "key")
    with pytest.raises(OSError, match="links are not written through"), locked(run):
        pass
    (run / LOCK).unlink()
    os.link(tmp_path / "key", run / LOCK)
    with locked(run):
        pass
    assert (tmp_path / "key").read_text() == "secret"


def test_forked_process_can_leave_the_block_of_its_parent(tmp_path):
    with locked(tmp_path):
        child = multiprocessing.get_context("fork").Process(target=lambda: None)
        child.start()
        child.join()
        assert child.exitcode == 0
        with pytest.raises(ValueError, match="this process already"), locked(tmp_path):
            pass
