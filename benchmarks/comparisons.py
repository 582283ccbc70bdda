"""Verdicts on every small recipe: each compared by `tangential compare`, in a page of at most eight hours on two cores.

    python benchmarks/comparisons.py                    what is not compared yet, in the order below
    python benchmarks/comparisons.py --hours 1          as much of it as begins and fits in an hour
    python benchmarks/comparisons.py --only digits      one; several may be named
    python benchmarks/comparisons.py --plan             commands and minutes; nothing is run

Interrupted anywhere, the same command goes on. Each comparison has its budget, and as many seeds as Holm's correction
over the whole page needs. What it found is kept in `results/comparisons`: `NAME.json` is the record with protocol and
command, `NAME.jsonl` has every epoch of the retrained runs, `NAME.txt` says why a recipe cannot be compared. The table
at the head of `docs/results.md` is made from those records alone, judged as one page.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tangential.experiments.comparison.items import RETRAINED
from tangential.experiments.comparison.page import RECORD
from tangential.experiments.comparison.sentences import signed
from tangential.experiments.comparison.several import several
from tangential.experiments.report.paired import seeds_needed
from tangential.experiments.runs.folder import find

RESULTS = Path(__file__).parent / "results" / "comparisons"
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BEGIN, END = "<!-- verdicts, by benchmarks/comparisons.py -->", "<!-- end of the verdicts -->"


@dataclass(frozen=True)
class Planned:
    """One comparison.

    Args:
        recipe: Name of the recipe.
        minutes: Its budget.
        settings: What shortens its runs, the same for both optimizers of a pair.
        pairs: Number of pairs: one, of AdamP, or both.
    """

    recipe: str
    minutes: int
    settings: tuple[str, ...] = ()
    pairs: int = 1

    @property
    def name(self) -> str:
        """Name of its files: the recipe, with the share of biased images where that is set."""
        shares = [each.partition("=")[2] for each in self.settings if "rho" in each]
        return "-".join([self.recipe, *shares])

    def command(self, seeds: int, out: Path) -> list[str]:
        """Its command line."""
        command = ["tangential", "compare", self.recipe, *self.settings, *["--only", "adamp"][: 4 - 2 * self.pairs]]
        return [*command, "--budget", str(self.minutes), "--seeds", str(seeds), "--out", str(out / self.name)]


PLAN = (
    Planned("digits", 10, pairs=2),
    Planned("mnist-small", 40, ("epochs=2",), pairs=2),
    Planned("cifar10-small", 55, ("epochs=2",), pairs=2),
    Planned("fsdd-harmonic", 25, ("epochs=6",)),
    Planned("fsdd-harmonic-speaker", 25, ("epochs=6",)),
    Planned("biased-mnist-small", 35, ("task.data.rho=0.9", "epochs=3")),
    Planned("cifar10-adversarial-small", 40, ("epochs=1",)),
    Planned("omniglot-proxy-anchor", 45, pairs=2),
    Planned("omniglot-triplet", 45, pairs=2),
    Planned("shakespeare-txl", 40, ("epochs=1",)),
    Planned("shakespeare-txl-wn", 40, ("epochs=1",)),
    Planned("bccd-ssd", 35, ("epochs=8",)),
    Planned("bccd-centernet", 45, ("epochs=8",)),
)
SEEDS = seeds_needed(sum(each.pairs for each in PLAN))


def compare(planned: Planned, out: Path) -> bool:
    """Run or resume one comparison, and keep what it found, or why there can be none; False if it was interrupted."""
    command = planned.command(SEEDS, out)
    print(f"\n{shlex.join(command)}", flush=True)
    done = subprocess.run([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    RESULTS.mkdir(parents=True, exist_ok=True)
    if done.returncode == 0:
        record = json.loads((out / planned.name / RECORD).read_text()) | {"name": planned.name}
        (RESULTS / f"{planned.name}.json").write_text(json.dumps(record, indent=1) + "\n")
        (RESULTS / f"{planned.name}.jsonl").write_text("\n".join(epochs(out / planned.name / RETRAINED)) + "\n")
        (RESULTS / f"{planned.name}.txt").unlink(missing_ok=True)
    elif done.returncode in (1, 2):
        (RESULTS / f"{planned.name}.txt").write_text(done.stderr.strip().splitlines()[-1] + "\n")
    return done.returncode in (0, 1, 2)


def epochs(folder: Path) -> Iterator[str]:
    """A line of JSON per retrained run."""
    for run in find([folder]):
        named = {key: run.settings()[key] for key in ("optimizer", "seed")}
        yield json.dumps({**named, "arguments": run.settings()["made_by"]["arguments"], "metrics": run.metrics()})


def verdicts() -> str:
    """The table of all records that are kept, judged as one page, and what cannot be compared."""
    kept = {each.name: RESULTS / f"{each.name}.json" for each in PLAN}
    records = [json.loads(path.read_text()) for path in kept.values() if path.exists()]
    headings = (
        "task",
        "score",
        "baseline, tuned",
        "projected, tuned",
        "difference, 95 % interval",
        "n",
        "p",
        "verdict",
    )
    text = [_row(headings), _row(["---"] * len(headings))]
    judged = several(records) if records else {"lines": [], "common": [], "notes": []}
    by_name = {record["name"]: record for record in records}
    text += [_row(_cells(by_name[line["name"]], line)) for line in judged["lines"]]
    commands = [record["protocol"]["environment"]["command"] for record in records]
    text += ["", *judged["notes"], "", "```sh", *commands, "```", ""]
    refused = [(each.name, RESULTS / f"{each.name}.txt") for each in PLAN if (RESULTS / f"{each.name}.txt").exists()]
    text += [f"- `{name}` is not compared: {path.read_text().strip()}" for name, path in refused]
    waiting = [f"`{each.name}`" for each in PLAN if not any((RESULTS / f"{each.name}{end}").exists() for end in ENDS)]
    return "\n".join([*text, *([f"- Not compared yet: {', '.join(waiting)}."] if waiting else [])]).strip()


ENDS = (".json", ".txt")


def _cells(record: Mapping[str, Any], line: Mapping[str, Any]) -> list[str]:
    made = {each["name"]: each for each in record["optimizers"]}
    interval = "" if line["low"] is None else f" [{signed(line['low'])}, {signed(line['high'])}]"
    sides = [made[line[role]] for role in ("reference", "contender")]
    return [
        f"`{record['name']}`",
        record["metric"]["label"],
        *(f"{each['name']}: {each['mean']:.2f}, {_settings(each['settings'])}" for each in sides),
        f"{signed(line['mean'])}{interval}",
        str(line["seeds"]),
        f"{line['p_adjusted']:.2g}",
        f"**{line['verdict']}**",
    ]


def _settings(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(table: str) -> None:
    """Put the table at the head of the page of results, in the place of the one before."""
    text = PAGE.read_text()
    part = f"{BEGIN}\n\n{table}\n\n{END}"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + part + rest.partition(END)[2]
    else:
        title, _, rest = text.partition("\n## ")
        text = f"{title}\n## Verdicts\n\nBoth sides of each pair tuned alike, by `python benchmarks/comparisons.py`"
        text += f" ([how](comparing.md)).\n\n{part}\n\n## {rest}"
    PAGE.write_text(text)


def main() -> None:
    """Compare what is not compared yet, within the hours that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", choices=[each.name for each in PLAN])
    parser.add_argument("--out", type=Path, default=Path("runs/comparisons"))
    parser.add_argument("--plan", action="store_true")
    given = parser.parse_args()
    left = [each for each in PLAN if not (RESULTS / f"{each.name}.json").exists()]
    left = [each for each in left if not given.only or each.name in given.only]
    until = time.monotonic() + 3600 * given.hours
    for planned in left:
        if given.plan:
            print(f"{planned.minutes:4} minutes  {shlex.join(planned.command(SEEDS, given.out))}")
        elif time.monotonic() + 60 * planned.minutes > until:
            print(f"{planned.name} takes {planned.minutes} minutes, more than are left; run the command again")
        elif not compare(planned, given.out):
            raise SystemExit(130)
        else:
            write(verdicts())


if __name__ == "__main__":
    main()
