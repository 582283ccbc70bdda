"""Run folders and event files from a stranger: the broken one is named and left out, the others are shown."""

import json
import re
import resource
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.hostile_folders import CASES, ESCAPES, good_runs, hostile_run
from support.run_folders import data, log, write_run
from tangential.experiments.report import layers, page, tables
from tangential.experiments.report.comparison import gather, gather_folders
from tangential.experiments.report.event_files import gather_events
from tangential.experiments.report.text import escaped
from tangential.experiments.report.values import LARGEST
from tangential.experiments.runs.folder import RunFolder

pytestmark = pytest.mark.slow


def shown(comparison):
    """Labels, seeds and notes; the page must be made too, and hold JSON that a browser reads."""
    text = page.render(comparison, scripts=False)
    text.encode()
    strict = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1], parse_constant=pytest.fail)
    assert [group["label"] for group in strict["groups"]] == [group.label for group in comparison.groups]
    tables.table(comparison)
    return {group.label: sorted(group.runs) for group in comparison.groups}, comparison.notes


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("follow", [False, True], ids=["report", "serve"])
def test_broken_run_is_left_out_and_named_and_the_others_are_shown(tmp_path, name, follow):
    good_runs(tmp_path)
    run = hostile_run(tmp_path, name)
    comparison = gather_folders([tmp_path], follow=follow)
    assert [(group.label, sorted(group.runs)) for group in comparison.groups] == [("sgd", [0, 1, 2])]
    (note,) = comparison.notes
    assert escaped(note) in unescape(page.render(comparison, live=follow, scripts=False)) or not note.isprintable()
    assert note.startswith("Left out: ") and str(run.path) in note
    assert len(note) < 600
    assert not re.search(
        r"Errno|Traceback|maximum recursion|RecursionError|OverflowError|TypeError: ", note.split("(")[0]
    )


@pytest.mark.parametrize("name", ["settings.json deep", "no settings", "telemetry 3", "facts 0", "metrics.jsonl list"])
def test_broken_run_alone_is_an_error_in_one_sentence(tmp_path, name):
    run = hostile_run(tmp_path, name)
    with pytest.raises(ValueError, match=re.escape(str(run.path))):
        gather_folders([tmp_path])
    assert shown(gather_folders([tmp_path], follow=True))[0] == {}


@pytest.mark.parametrize("name", ["a seed again", "other settings"])
def test_run_that_comes_first_does_not_decide_what_the_others_are(tmp_path, name):
    run = write_run(tmp_path, "sgd", 0, [0.1], **({} if name == "a seed again" else {"batch_size": 3}))
    good_runs(tmp_path)
    groups, notes = shown(gather_folders([tmp_path]))
    assert groups == {"sgd": [0, 1, 2]}
    assert len(notes) == 1
    assert name == "a seed again" or str(run.path) in notes[0]


def test_many_broken_runs_are_all_named(tmp_path):
    good_runs(tmp_path)
    broken = [hostile_run(tmp_path, "settings.json empty").path for _ in range(30)]
    groups, notes = shown(gather_folders([tmp_path]))
    assert groups == {"sgd": [0, 1, 2]}
    assert len(notes) == 11
    assert all(re.search(rf"\b{path.name}\b", "\n".join(notes)) for path in broken)


def test_folder_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch):
    good_runs(tmp_path)
    locked = write_run(tmp_path, "sgdp", 0, [0.5])
    read = RunFolder.settings

    def refused(self):
        if self.path == locked.path:
            raise PermissionError(13, "Permission denied", str(self.path / "settings.json"))
        return read(self)

    monkeypatch.setattr(RunFolder, "settings", refused)
    groups, notes = shown(gather_folders([tmp_path]))
    assert groups == {"sgd": [0, 1, 2]}
    assert notes == (f"Left out: {locked.path}/settings.json: Permission denied",)


HALF = "\ud800 half a surrogate pair"


@pytest.mark.parametrize("name", [ESCAPES, HALF, "_hidden", "$\\frac", "", "x" * 900, "日本語", "a\0b", "[bold]"])
def test_any_name_is_drawn_and_written(tmp_path, name):
    label = name or "-"
    run = write_run(tmp_path, label, 0, [], epochs=1, compared={label: None}, recipe=name, **{f"k{name}": name})
    run.append({"epoch": 1, "train_loss": 1.0, f"test_{name}": 0.5, f"own{name}": 1.0})
    weight = {"kind": name, "blocks": 2, "norm": 1.0, "effective_step": 0.1, "angle": 0.1}
    run.telemetry.write_text(json.dumps({"step": 1, "epoch": 1, "weights": {name: weight}}) + "\n")
    comparison = gather([run])
    assert shown(comparison)[0] == {label: [0]}
    paths = page.save(comparison, tmp_path / "out" if (tmp_path / "out").mkdir() is None else tmp_path)
    assert all(path.stat().st_size > 1000 and path.parent == tmp_path / "out" for path in paths)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), st.floats(0, 1e9, exclude_min=True))
@settings(max_examples=60, deadline=None)
def test_numbers_of_any_size_are_drawn_finite_or_left_out(tmp_path_factory, value, scale):
    out = tmp_path_factory.mktemp("any")
    headline = {"name": "score", "label": "score", "scale": scale, "higher_is_better": True}
    for seed in (0, 1):
        run = write_run(out, "sgd", seed, [], epochs=1, headline=headline)
        run.append({"epoch": 1, "train_loss": 1.0, "test_score": 0.5, "weight_norm": value, "own": value})
    comparison = gather_folders([out])
    drawn = {chart["key"] for chart in data(page.render(comparison, scripts=False))["charts"]}
    assert ("own" in drawn) == (abs(value) <= LARGEST)
    assert shown(comparison)[0] == {"sgd": [0, 1]}
    assert all(len(str(cell)) < 60 for row in tables.table(comparison).rows for cell in row)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(["settings.json", "environment.json", "metrics.jsonl", "telemetry.jsonl", "invariances.json"]),
    st.sampled_from(
        ["optimizer", "seed", "epochs", "compared", "headline", "paper", "made_by", "recipe", "epoch", "step"]
    )
    | st.sampled_from(
        ["train_loss", "test_accuracy", "weights", "summary", "notes", "aliases", "parameters", "version"]
    ),
    json_values,
)
@settings(max_examples=250, deadline=None)
def test_no_value_in_any_place_hides_the_other_runs(tmp_path_factory, name, key, value):
    out = tmp_path_factory.mktemp("any")
    good_runs(out)
    run = write_run(out, "evil", 0, [0.25], compared={"evil": None})
    run.telemetry.write_text('{"step": 1, "epoch": 1, "weights": {}}\n')
    run.invariances.write_text('{"version": 1, "notes": [], "aliases": {}, "parameters": []}\n')
    path = run.path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}).replace("\n", " ") + "\n")
    groups, notes = shown(gather_folders([out], follow=True))
    assert groups["sgd"] == [0, 1, 2] or "sgd" in str(value)
    assert len(groups) == 2 or str(run.path) in notes[0]


def test_links_in_the_folder_are_replaced_and_not_written_through(tmp_path):
    good_runs(tmp_path / "runs")
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("a key")
    out.mkdir()
    names = ("report.html", "accuracy.png", "weight_norm.png", "effective_step.png", "overview.png")
    for name in names:
        (out / name).symlink_to(victim)
        (out / f"{name}.part").symlink_to(victim)
    page.save(gather_folders([tmp_path / "runs"]), out)
    assert victim.read_text() == "a key"
    assert not any((out / name).is_symlink() for name in names)
    assert {path.name for path in out.iterdir()} == {*names, *(f"{name}.part" for name in names)}


def test_two_writers_of_one_folder_leave_whole_files(tmp_path):
    good_runs(tmp_path / "runs")
    out = tmp_path / "out"
    out.mkdir()
    comparison = gather_folders([tmp_path / "runs"])
    with ThreadPoolExecutor(4) as pool:
        for saved in [pool.submit(page.save, comparison, out) for _ in range(8)]:
            saved.result()
    assert (out / "report.html").read_text().rstrip().endswith("</html>")
    assert all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in out.glob("*.png"))
    assert len(list(out.iterdir())) == 5


def test_telemetry_without_epochs_is_read_in_linear_time(tmp_path):
    """Ten times as many lines take some ten times as many calls, not a hundred times."""
    weight = {"norm": 1.0, "effective_step": 0.1, "angle": 0.1}
    calls = []
    for lines in (200, 2000):
        path = tmp_path / f"{lines}.jsonl"
        rows = [{"step": i, "epoch": None, "weights": {"a": weight, "b": weight}} for i in range(lines)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        count = 0

        def counted(frame, event, argument):
            nonlocal count
            count += 1

        sys.setprofile(counted)
        try:
            found = layers.read(path)
        finally:
            sys.setprofile(None)
        calls.append(count)
        assert (found.unit, found.values["norm"].shape) == ("step", (2, lines))
        assert np.array_equal(found.x, np.arange(lines))
    assert calls[1] < 15 * calls[0]


def test_large_telemetry_is_merged_or_refused_within_bounds(tmp_path, monkeypatch):
    path = tmp_path / "telemetry.jsonl"
    weight = {"norm": 1.0, "effective_step": 0.1, "angle": 0.1}
    path.write_text("".join(json.dumps({"step": i, "weights": {"a": weight}}) + "\n" for i in range(100)))
    monkeypatch.setattr(layers, "CELLS", 10)
    found = layers.read(path)
    assert found.x.tolist() == [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]
    monkeypatch.setattr(layers, "ENTRIES", 50)
    with pytest.raises(ValueError, match="more than 50 entries"):
        layers.read(path)


def test_weights_of_one_run_and_steps_of_another_do_not_multiply(tmp_path):
    """A run of many steps beside a run of many weights: the page is made without a table of all by all."""
    weight = {"norm": 1.0, "effective_step": 0.1, "angle": 0.1}
    runs = [write_run(tmp_path, "sgd", seed, [0.5]) for seed in (0, 1)]
    lines = (json.dumps({"step": i, "epoch": i, "weights": {"a": weight}}) + "\n" for i in range(50_000))
    runs[0].telemetry.write_text("".join(lines))
    names = {f"w{i}": weight for i in range(50_000)}
    runs[1].telemetry.write_text(json.dumps({"step": 1, "epoch": 1, "weights": names}) + "\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown(gather_folders([tmp_path]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000, "kilobytes"


def record(content):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    head = struct.pack("<Q", len(content))
    foot = struct.pack("<I", masked_crc32c(content))
    return head + struct.pack("<I", masked_crc32c(head)) + content + foot


def event_file(folder):
    (path,) = folder.glob("*tfevents*")
    return path


DAMAGES = {
    "cut": (lambda whole: whole[:-5], "ends within a record"),
    "cut in a head": (lambda whole: whole + b"\x05\0\0", "ends within a record"),
    "flipped": (lambda whole: whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:], "the checksum of a record is wrong"),
    "length": (lambda whole: whole + struct.pack("<QI", 1 << 62, 0), "the checksum of a length is wrong"),
    "huge": (lambda whole: whole + record(b"")[:0] + huge_head(), "a record has"),
    "no event": (lambda whole: whole + record(b"\xff" * 20), "is no event"),
    "text": (lambda whole: whole + b"nonsense " * 10, "the checksum of a length is wrong"),
}


def huge_head():
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    head = struct.pack("<Q", 1 << 62)
    return head + struct.pack("<I", masked_crc32c(head))


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_event_file_counts_up_to_the_damage_and_is_named(tmp_path, name):
    damage, why = DAMAGES[name]
    path = event_file(log(tmp_path / "bad", {"loss": [3.0, 2.0, 1.0]}))
    log(tmp_path / "good", {"loss": [1.0]})
    path.write_bytes(damage(path.read_bytes()))
    groups, (note,) = shown(gather_events([tmp_path]))
    assert groups == {"bad": [0], "good": [0]}
    assert note.startswith(f"Damaged: {path}: ") and why in note
    values = gather_events([tmp_path]).groups[0].runs[0].curves["loss"].y.tolist()
    assert values == ([3.0, 2.0] if name in ("cut", "flipped") else [3.0, 2.0, 1.0])


def test_event_files_that_are_no_files_are_passed_over(tmp_path):
    import os

    log(tmp_path / "run", {"loss": [1.0]})
    os.mkfifo(tmp_path / "run" / "events.out.tfevents.9.pipe")
    (tmp_path / "run" / "events.out.tfevents.9.folder").mkdir()
    (tmp_path / "run" / "events.out.tfevents.9.loop").symlink_to("events.out.tfevents.9.loop")
    assert shown(gather_events([tmp_path])) == ({"run": [0]}, ())


def test_scalars_that_are_no_measurement_are_left_out_and_named(tmp_path):
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.util import tensor_util

    path = event_file(log(tmp_path, {"loss": [1.0]}))
    summary = summary_pb2.Summary()
    for tag, content in (("empty", np.zeros(0)), ("words", np.array([b"x"])), ("huge", np.array(1e300))):
        value = summary.value.add(tag=tag, tensor=tensor_util.make_tensor_proto(content))
        value.metadata.plugin_data.plugin_name = "scalars"
    with path.open("ab") as file:
        file.write(record(event_pb2.Event(step=1, summary=summary).SerializeToString()))
    groups, (note,) = shown(gather_events([tmp_path]))
    assert list(groups.values()) == [[0]]
    assert note == "Points that are NaN or infinite are left out: empty, words, huge."


@given(st.text())
def test_escaped_text_is_one_line_without_control_characters(text):
    safe = escaped(text)
    assert not any(0x7F <= ord(c) < 0xA0 or ord(c) < 0x20 or 0xD800 <= ord(c) < 0xE000 for c in safe)
    assert not set(safe) & set("\u2028\u2029\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    assert len(safe.splitlines()) <= 1
    assert safe == text or not text.isprintable()
