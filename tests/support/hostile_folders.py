"""Run folders as nobody should make them: each differs from a good one in one file or one value."""

import json
import os

from support.run_folders import write_run

DEEP = "[" * 5000 + "]" * 5000
DEEP_OBJECT = '{"a":' * 200 + "1" + "}" * 200
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202e\u2028\x9b31m"
BYTES = {
    "empty": b"",
    "zeros": b"\0" * 100,
    "text": b"nonsense\n",
    "latin": b'{"a": "\xff"}\n',
    "utf16": '{"a": 1}\n'.encode("utf-16"),
    "bom": b"\xef\xbb\xbf{}\n",
    "list": b"[1]\n",
    "number": b"3\n",
    "null": b"null\n",
    "string": b'"x"\n',
    "deep": DEEP.encode() + b"\n",
    "deep object": DEEP_OBJECT.encode() + b"\n",
    "half": b'{"epoch": 1, "train_loss"\n',
    "huge": b'{"a": "' + b"x" * (1 << 25) + b'"}\n',
    "digits": b'{"epoch": ' + b"9" * 5000 + b"}\n",
    "nan": b'{"epoch": NaN, "step": NaN}\n',
    "infinity": b'{"epoch": 1e999, "step": 1e999}\n',
    "escapes": json.dumps({ESCAPES: ESCAPES}).encode() + b"\n",
}
FILES = ("settings.json", "environment.json", "metrics.jsonl", "telemetry.jsonl", "invariances.json")
HARMLESS = {  # a file that holds nothing, or whose contents may be anything
    *(("environment.json", each) for each in ("escapes", "nan", "infinity", "utf16", "bom")),
    *((name, each) for name in ("metrics.jsonl", "telemetry.jsonl") for each in ("empty", "zeros", "half", "a loop")),
    ("invariances.json", "a loop"),
}

SETTINGS = {
    "optimizer": [None, 3, "", [], {}, "x" * 5000],
    "seed": [None, "0", 1.5, True, 10**30, -(10**400), [0]],
    "epochs": [None, "1", -1, 1.0, True, 10**400],
    "compared": [None, 3, [], "sgd", {"sgd": 3}, {"sgd": ["x"]}, {"sgd": {}}],
    "headline": [
        3,
        [],
        {"name": "accuracy"},
        *(
            {"name": "accuracy", "label": "a", "scale": scale, "higher_is_better": True}
            for scale in ("1", True, 0, -1, 1e300, 10**400)
        ),
    ],
}
HUGE = (10**400, 1e300, "1", [1], {}, None, True)
METRICS = {
    "epoch": (0, 2, "1", None, [1], 10**400),
    "train_loss": HUGE,
    "test_accuracy": HUGE,
}
WEIGHT = {"norm": 1.0, "effective_step": 0.1, "angle": 0.1, "radial_update": 0.1, "tangential_update": 0.2}


def _telemetry():
    yield from ({"step": step, "epoch": 1, "weights": {"a": WEIGHT}} for step in (None, "1", 1.5, True, 10**30, [1]))
    yield from ({"step": 1, "epoch": epoch, "weights": {"a": WEIGHT}} for epoch in ("1", 1.5, True, 10**30, [1], {}))
    yield from ({"step": 1, "epoch": 1, "weights": weights} for weights in (None, 3, [1], {"a": None}, {"a": {}}))
    for figure in WEIGHT:
        yield from ({"step": 1, "epoch": 1, "weights": {"a": WEIGHT | {figure: value}}} for value in ("1", [1], {}))
    yield {"step": 1, "epoch": 1, "weights": {"a": WEIGHT}, "summary": {"norm": 3}}
    yield {"step": 1, "epoch": 1, "weights": {"a": WEIGHT}, "summary": 3}
    yield {"step": 1, "epoch": 1, "weights": {"a": WEIGHT}, "summary": {"angle": {"median": "x"}}}


def _facts():
    entry = {"name": "a", "shape": [2], "kind": "channel", "blocks": None}
    yield from ({}, {"version": 1}, {"version": "1", "parameters": 3}, {"version": 1, "parameters": [3]})
    yield {"version": 1, "notes": 3, "aliases": {}, "parameters": [entry]}
    yield {"version": 1, "notes": [], "aliases": [], "parameters": [entry | {"shape": "x"}]}


def _pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def _loop(path):
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def _device(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


KINDS = {"a pipe": _pipe, "a folder": _folder, "a loop": _loop, "a device": _device}


def _changed(name, **values):
    def change(run):
        (run.path / name).write_text(json.dumps(json.loads((run.path / name).read_text()) | values) + "\n")

    return change


def _written(name, content):
    def change(run):
        (run.path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n")

    return change


def _made(name, make):
    return lambda run: make(run.path / name)


def _cases():
    for name in FILES:
        yield from (
            (f"{name} {kind}", _written(name, content))
            for kind, content in BYTES.items()
            if (name, kind) not in HARMLESS
        )
        yield from (
            (f"{name} is {kind}", _made(name, make)) for kind, make in KINDS.items() if (name, kind) not in HARMLESS
        )
    for name, values in SETTINGS.items():
        yield from ((f"{name}={str(v)[:30]}", _changed("settings.json", **{name: v})) for v in values)
    for name, values in METRICS.items():
        yield from ((f"{name}={str(v)[:30]}", _changed("metrics.jsonl", **{name: v})) for v in values)
    yield from ((f"telemetry {i}", _written("telemetry.jsonl", record)) for i, record in enumerate(_telemetry()))
    yield from ((f"facts {i}", _written("invariances.json", record)) for i, record in enumerate(_facts()))
    yield "no settings", lambda run: (run.path / "settings.json").unlink()
    yield "other settings", _changed("settings.json", optimizer="sgd", seed=7, batch_size=3)
    yield "a seed again", _changed("settings.json", optimizer="sgd", seed=1)


CASES = dict(_cases())
"""Name -> function that spoils the folder of a run that was good."""


def good_runs(out):
    """Three runs of the optimizer `sgd`, for the others to hide."""
    return [write_run(out, "sgd", seed, [0.5 + 0.1 * seed]) for seed in range(3)]


def hostile_run(out, name):
    """A run of the optimizer `evil`, spoiled."""
    run = write_run(out, "evil", 0, [0.25], compared={"sgd": None, "sgdp": "sgd", "evil": None})
    CASES[name](run)
    return run
