"""What the experiments gave: the log and the table of each folder of runs, for the repository.

    tangential train mnist-small --seeds 3                       trains
    python benchmarks/experiments.py runs/mnist-small            keeps what came out
    python benchmarks/experiments.py runs/theo runs/lucas --name speakers    several folders, one table

For each folder, `results/experiments/NAME.jsonl` has a line per run, with its settings, machine, command and every
epoch's numbers, and `NAME.md` the report's table. Nothing is trained or computed here that the report does not have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tangential.report.groups import gather
from tangential.report.tables import Cell, table
from tangential.runs import RunFolder, find

RESULTS = Path(__file__).parent / "results" / "experiments"


def lines(runs: Sequence[RunFolder]) -> Iterator[str]:
    """Give a line of JSON per run."""
    for run in runs:
        yield json.dumps({"settings": run.settings(), "environment": run.environment(), "metrics": run.metrics()})


def page(runs: Sequence[RunFolder]) -> str:
    """Write the table of some runs in Markdown, with the commands and machines that made it."""
    summary = table(gather(runs))
    made = [run.environment() for run in runs]
    commands = dict.fromkeys(each["command"] for each in made)
    machines = dict.fromkeys(f"torch {each['torch']}, {each['threads']} thread, {each['platform']}" for each in made)
    rule = ["---"] * len(summary.headings)
    rows = [_row(row) for row in (summary.headings, rule, *summary.rows)]
    told = ["```sh", *commands, "```", "", *machines, "", *rows, "", summary.caption.strip()]
    return "\n".join(told) + "\n"


def _row(cells: Sequence[str | Cell]) -> str:
    return f"| {' | '.join(' '.join(str(cell).split()) for cell in cells)} |"


def main() -> None:
    """Keep the results of the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--name", help="what to call them together; each by its folder's name if not given")
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
