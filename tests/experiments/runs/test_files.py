"""Files of a run folder: whole or not there, written through no link, and damage told from a failure to read."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tangential.experiments.runs import files
from tangential.experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from tangential.experiments.runs.files import append_line, read_object, replace_file, replace_json, replace_text
from tangential.experiments.runs.folder import RunFolder
from tangential.telemetry import json_lines as lines
from tangential.telemetry.json_lines import json_lines

WRITERS = {
    "replace_text": lambda path: replace_text(path, "new"),
    "replace_json": lambda path: replace_json(path, {"new": 1}),
    "checkpoint": lambda path: save_checkpoint(RunFolder(path.parent), {"epoch": 1}),
    "rewind": lambda path: RunFolder(path.parent).rewind(0),
}


@pytest.mark.parametrize("suffix", ["", ".part", ".0.part"])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", ["soft", "hard", "dangling"])
def test_whole_files_are_written_through_no_link(tmp_path, writer, suffix, kind):
    key, run = tmp_path / "key", tmp_path / "run"
    run.mkdir()
    if kind != "dangling":
        key.write_bytes(b"")
    name = {"checkpoint": "checkpoint.pt", "rewind": "metrics.jsonl"}.get(writer, "report.html")
    link = run / (name + suffix)
    os.link(key, link) if kind == "hard" else link.symlink_to(key)
    WRITERS[writer](run / name)
    assert not key.exists() if kind == "dangling" else key.read_bytes() == b""
    assert not (run / name).is_symlink()


def test_line_is_appended_through_no_link(tmp_path):
    (tmp_path / "key").write_text("secret")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "key")
    with pytest.raises(OSError, match="links are not written through") as caught:
        append_line(tmp_path / "metrics.jsonl", {"epoch": 1})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert (tmp_path / "key").read_text() == "secret"


def test_folder_that_is_swapped_during_the_write_gets_nothing(tmp_path):
    run, moved, victim = tmp_path / "run", tmp_path / "moved", tmp_path / "victim"
    run.mkdir()
    victim.mkdir()
    (victim / "report.html").write_text("theirs")

    def swap(file):
        run.rename(moved)
        run.symlink_to(victim)
        file.write(b"ours")

    replace_file(run / "report.html", swap)
    assert (victim / "report.html").read_text() == "theirs"
    assert (moved / "report.html").read_text() == "ours"


WRITER = """
import sys
from pathlib import Path
from tangential.experiments.runs.files import replace_text
for _ in range(150):
    replace_text(Path(sys.argv[1]), sys.argv[2] * 200_000)
"""


def test_two_writers_of_one_file_leave_one_of_the_two_whole(tmp_path):
    path = tmp_path / "report.html"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_text()
            assert text in ("a" * 200_000, "b" * 200_000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_full_disk_at_any_point_is_named_and_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "settings.json"
    path.write_text("old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(OSError) as caught:
        if call == "write":
            patched.setattr(files, "_open_fresh", lambda name, folder: os.open("/dev/full", os.O_WRONLY))
        else:
            patched.setattr(files.os, call, full)
        replace_text(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Expecting value"),
        (b"[1]", "does not hold an object"),
        (b"[" * 100_000, "recursion"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "digit"),
        (b'\xff\xfe{"seed"', "codec"),
        (b" " * (files.LARGEST + 1), "larger than 16 MiB"),
    ],
)
def test_damaged_object_is_named(tmp_path, content, why):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"settings.json is broken .*{why}"):
        read_object(path)


def test_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    for name in ("settings.json", "metrics.jsonl"):
        os.mkfifo(tmp_path / name)
    for read in (RunFolder(tmp_path).settings, RunFolder(tmp_path).metrics):
        with pytest.raises(ValueError, match=r"is broken .it is not a regular file"):
            read()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.ENOMEM, errno.EIO])
def test_failure_to_read_is_no_damage(tmp_path, monkeypatch, code):
    run = RunFolder(tmp_path)
    run.start({"seed": 0}, {})
    run.append({"epoch": 1})
    for _ in range(2):
        save_checkpoint(run, {"epoch": 1})

    def refuse(path, *_, **__):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr("zipfile.ZipFile", refuse)
    for read in (run.settings, run.metrics, lambda: load_checkpoint(run)):
        with pytest.raises((OSError, MemoryError)) as caught:
            read()
        assert "delete" not in str(caught.value)
        assert code == errno.ENOMEM or (caught.value.errno, bool(caught.value.filename)) == (code, True)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_lack_of_memory_takes_no_older_checkpoint(tmp_path, monkeypatch, error):
    run = RunFolder(tmp_path)
    for epoch in (1, 2):
        save_checkpoint(run, {"epoch": epoch})

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torch.load", fail)
    with pytest.raises(MemoryError, match=r"checkpoint\.pt: not enough memory"):
        load_checkpoint(run)


@pytest.mark.parametrize(
    ("content", "numbers", "why"),
    [
        (b'{"a": 1}\n{"a"', [1], None),
        (b"", [], None),
        (b'{"a": 1}\n\n', [1], "line 2 is not JSON"),
        (b'{"a": NaN}\n', [], "line 1 is not JSON"),
        (b"[" * 100_000 + b"\n", [], "line 1 is not JSON"),
        (b"1\n" + b" " * 300, [1], "line 2 is longer than"),
    ],
)
def test_json_lines_are_whole_lines_and_damage_is_numbered(tmp_path, monkeypatch, content, numbers, why):
    monkeypatch.setattr(lines, "LONGEST", 1 << 18 if b"[[" in content else 256)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    found = []
    try:
        for number, _, end in json_lines(path):
            found.append(number)
            assert content[:end].count(b"\n") == number
    except ValueError as error:
        assert why and str(error).startswith(why)
    else:
        assert why is None
    assert found == numbers
