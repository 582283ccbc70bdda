"""The step-time benchmark for people: a table and a plot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Record = dict[str, Any]


def named(machine: Record) -> str:
    """What the figures were measured on, in words."""
    if machine["device"] != "cpu":
        return f"{machine['device']}, torch {machine['torch']}"
    return f"{machine['cpu']} ({machine['capability']}, {machine['cores']} cores), torch {machine['torch']}"


def where(machine: Record, threads: int) -> str:
    """What took the steps."""
    return f"{threads} thread{'s' * (threads > 1)}" if machine["device"] == "cpu" else "on the GPU"


def table(machine: Record, steps: list[Record], training: Iterable[Record] = ()) -> str:
    """Markdown: one table per network, threads and kind of gradients; then the whole training steps.

    "Peak MB" is what a step needs for a moment beside weights, gradients and state.
    """
    lines = [f"Step times on {named(machine)}", ""]
    for place in sorted({(r["threads"], r["network"], r["fires"]) for r in steps}, key=lambda p: (p[1], p[0], -p[2])):
        threads, network, fires = place
        some = [r for r in steps if (r["threads"], r["network"], r["fires"]) == place]
        title = f"{network}, test {'fires' if fires else 'does not fire'}, {where(machine, threads)}"
        lines += [f"### {title}", "", "| | ms | ratio | quartiles | GB/s | of ceiling | peak MB | rounds |"]
        lines += ["| --- " * 8 + "|", *map(_row, some), ""]
    if training:
        lines += ["### Whole training step", "", "| model | optimizer | threads | optimizer ms | step ms | share |"]
        lines += ["| --- " * 6 + "|"]
    for r in training:
        lines.append(
            f"| {r['model']} | {r['optimizer']} | {r['threads']} | {r['step'] * 1e3:.2f} | {r['whole'] * 1e3:.1f}"
            f" | {r['share']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def _row(r: Record) -> str:
    ceiling = "" if r["of_ceiling"] is None else f"{r['of_ceiling']:.0%}"
    memory = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.1f}"
    rounds = f"{r['rounds']}{'' if r['quiet'] else ' (none quiet)'}"
    return (
        f"| {r['entrant']} | {r['seconds'] * 1e3:.2f} | {r['ratio']:.2f} | {r['low']:.2f} to {r['high']:.2f}"
        f" | {r['gb_per_s']:.1f} | {ceiling} | {memory} | {rounds} |"
    )


def plot(machine: Record, steps: list[Record], file: Path) -> None:
    """Ratios on a logarithmic scale: a row per number of threads, a column per family, a colour per network."""
    families = list(dict.fromkeys(r["family"] for r in steps))
    threads = sorted({r["threads"] for r in steps})
    entrants = max(len({r["entrant"] for r in steps if r["family"] == family}) for family in families)
    size = (7 * len(families), (0.3 * entrants + 1) * len(threads) + 1)
    figure, axes = plt.subplots(
        len(threads), len(families), figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for row, count in zip(axes, threads, strict=True):
        for axis, family in zip(row, families, strict=True):
            _panel(axis, [r for r in steps if (r["family"], r["threads"]) == (family, count)])
            axis.set_title(f"{'Adam' if family == 'adam' else 'SGD'} family, {where(machine, count)}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"Time of a step / time of torch's fused AdamW or SGD\n{named(machine)}", fontsize=11)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _panel(axis: Any, records: list[Record]) -> None:
    """One line per entrant; on it the networks, one under the other, filled where the test fires."""
    names = list(dict.fromkeys(r["entrant"] for r in records))
    networks = list(dict.fromkeys(r["network"] for r in records))
    for i, network in enumerate(networks):
        for fires in (True, False):
            own = [r for r in records if r["network"] == network and r["fires"] == fires]
            lift = 0.16 * (i - (len(networks) - 1) / 2)
            axis.errorbar(
                [r["ratio"] for r in own],
                [names.index(r["entrant"]) + lift for r in own],
                xerr=[
                    [r["ratio"] - min(r["low"], r["ratio"]) for r in own],
                    [max(r["high"], r["ratio"]) - r["ratio"] for r in own],
                ],
                fmt="o",
                color=f"C{i}",
                markerfacecolor=f"C{i}" if fires else "white",
                markersize=4,
                elinewidth=0.8,
                label=f"{network}, test {'fires' if fires else 'does not fire'}",
            )
    for at in range(0, len(names), 2):
        axis.axhspan(at - 0.5, at + 0.5, color="0.95", zorder=0)
    axis.axvline(1, color="black", linewidth=0.8, zorder=1)
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axis.set(xscale="log", yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axis.set_xticks(ticks, map(str, ticks))
    axis.minorticks_off()
    axis.tick_params(axis="x", labelbottom=True)
    axis.grid(axis="x", linewidth=0.4)
