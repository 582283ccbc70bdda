"""Results of experiments: the log and the table of each folder of runs, for the repository.

    tangential train mnist-small --seeds 3                       trains
    python benchmarks/experiments.py runs/mnist-small            writes its results
    python benchmarks/experiments.py runs/theo runs/lucas --name speakers    several folders, one table

For each folder, `results/experiments/NAME.jsonl` has a line per run, with its settings, machine, command and every
epoch's numbers, and `NAME.md` the report's table. Every number is the report's; nothing is trained or computed here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from tangential.experiments.report.comparison import gather
from tangential.experiments.report.tables import Cell, table
from tangential.experiments.runs.folder import RunFolder, find
from tangential.invariances import Invariances
from tangential.telemetry.json_lines import json_lines

RESULTS = Path(__file__).parent / "results" / "experiments"


def lines(runs: Sequence[RunFolder]) -> Iterator[str]:
    """A line of JSON per run: settings, environment and metrics."""
    for run in runs:
        yield json.dumps({"settings": run.settings(), "environment": run.environment(), "metrics": run.metrics()})


def page(runs: Sequence[RunFolder]) -> str:
    """Table of some runs in Markdown, with their commands and machines."""
    summary = table(gather(runs))
    made = [run.environment() for run in runs]
    commands = dict.fromkeys(each["command"] for each in made)
    machines = dict.fromkeys(f"torch {each['torch']}, {each['threads']} thread, {each['platform']}" for each in made)
    rule = ["---"] * len(summary.headings)
    rows = [_row(row) for row in (summary.headings, rule, *summary.rows)]
    text = ["```sh", *commands, "```", "", *machines, "", *rows, "", summary.caption.strip(), "", *projected(runs)]
    return "\n".join(text) + "\n"


def projected(runs: Sequence[RunFolder]) -> Iterator[str]:
    """Share of recorded steps at which scale-invariant weights were projected, and the other weights."""
    taken: dict[str, dict[bool, list[float]]] = {}
    for run in runs:
        if not (run.telemetry.exists() and run.invariances.exists()):
            continue
        known = Invariances.from_json(run.invariances.read_text())
        lists = taken.setdefault(run.settings()["optimizer"], {True: [], False: []})
        for _, record, _ in json_lines(run.telemetry):
            for name, figures in record["weights"].items():
                if figures.get("projected") is not None:
                    lists[known[name] is not None].append(figures["projected"])
    for optimizer, lists in taken.items():
        if not any(lists.values()):  # it projects nothing
            continue
        shares = [
            f"{100 * mean(values):.1f} % of {what}"
            for what, values in zip(_KINDS, lists.values(), strict=True)
            if values
        ]
        yield f"Projected by {optimizer}, share of the recorded steps: {', '.join(shares)}."


_KINDS = ("the scale-invariant weights", "the others")


def _row(cells: Sequence[str | Cell]) -> str:
    return f"| {' | '.join(' '.join(str(cell).split()) for cell in cells)} |"


def main() -> None:
    """Write the results of the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--name", help="one name for all of them; else each has its folder's name")
    given = parser.parse_args()
    parts = {given.name: given.folders} if given.name else {folder.name: [folder] for folder in given.folders}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, folders in parts.items():
        runs = find(folders)
        (RESULTS / f"{name}.jsonl").write_text("\n".join(lines(runs)) + "\n")
        (RESULTS / f"{name}.md").write_text(page(runs))
        print(RESULTS / f"{name}.md")


if __name__ == "__main__":
    main()
