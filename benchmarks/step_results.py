"""The results file of the step-time benchmark: runs for other networks or threads add to what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from step_report import Record, plot, table

Results = dict[str, Any]
"""`machine`, a dict; `steps` and `training`, lists of records."""

STEP = ("network", "fires", "threads", "entrant")
TRAINING = ("model", "optimizer", "threads")


def write(found: Results, file: Path) -> Path:
    """Write `.json`, `.md` and `.png`; returns `file`.

    Raises:
        SystemExit: The file there is of another machine or torch: ratios across them would mean nothing.
    """
    path = file.with_name(f"{file.name}.json")
    if path.exists():
        old = json.loads(path.read_text())
        if old["machine"] != found["machine"]:
            raise SystemExit(
                f"{path} was measured on {old['machine']}, this is {found['machine']}; move it or use --out"
            )
        found = {**found, **{name: _merged(old[name], found[name], by) for name, by in _parts()}}
    file.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    file.with_name(f"{file.name}.md").write_text(table(**found))
    plot(found["machine"], found["steps"], file.with_name(f"{file.name}.png"))
    return file


def _parts() -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("steps", STEP), ("training", TRAINING)


def _merged(old: list[Record], new: list[Record], by: tuple[str, ...]) -> list[Record]:
    """Old records, those with the keys of new ones replaced, and new ones after them."""

    def key(record: Record) -> tuple[Any, ...]:
        return tuple(record[name] for name in by)

    return list({**{key(r): r for r in old}, **{key(r): r for r in new}}.values())
