"""The step-time benchmark for people: a table and a plot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Record = dict[str, Any]


def table(steps: list[Record], training: Iterable[Record] = ()) -> str:
    """Markdown: one table per network, threads and kind of gradients; then the whole training steps."""
    lines = []
    for place in dict.fromkeys((r["threads"], r["network"], r["fires"]) for r in steps):
        _, network, fires = place
        some = [r for r in steps if (r["threads"], r["network"], r["fires"]) == place]
        title = f"{network}, test {'fires' if fires else 'does not fire'}, {_where(some[0])}"
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


def _where(r: Record) -> str:
    return "on the GPU" if r.get("device") == "cuda" else f"{r['threads']} thread{'s' * (r['threads'] > 1)}"


def _row(r: Record) -> str:
    ceiling = f"{r['of_ceiling']:.0%}" if "of_ceiling" in r else ""
    memory = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.1f}"
    rounds = f"{r['rounds']}{'' if r['quiet'] else ' (none quiet)'}"
    return (
        f"| {r['entrant']} | {r['seconds'] * 1e3:.2f} | {r['ratio']:.2f} | {r['low']:.2f} to {r['high']:.2f}"
        f" | {r['gb_per_s']:.1f} | {ceiling} | {memory} | {rounds} |"
    )


def plot(steps: list[Record], file: Path) -> None:
    """Ratios on a logarithmic scale, a panel per family and number of threads, a colour per network."""
    panels = list(dict.fromkeys((r["family"], r["threads"]) for r in steps))
    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 7), squeeze=False, layout="constrained")
    for (family, threads), axis in zip(panels, axes[0], strict=True):
        some = [r for r in steps if (r["family"], r["threads"]) == (family, threads)]
        names = list(dict.fromkeys(r["entrant"] for r in some))
        networks = list(dict.fromkeys(r["network"] for r in some))
        for colour, network in zip(plt.colormaps["tab10"].colors, networks, strict=False):
            for fires, mark in ((True, "o"), (False, "s")):
                own = [r for r in some if r["network"] == network and r["fires"] == fires]
                axis.errorbar(
                    [r["ratio"] for r in own],
                    [names.index(r["entrant"]) for r in own],
                    xerr=[
                        [r["ratio"] - min(r["low"], r["ratio"]) for r in own],
                        [max(r["high"], r["ratio"]) - r["ratio"] for r in own],
                    ],
                    fmt=mark,
                    color=colour,
                    markersize=4,
                    label=f"{network}, test {'fires' if fires else 'does not fire'}",
                )
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.set(xscale="log", yticks=range(len(names)), yticklabels=names, xlabel=f"time / torch's fused {family}")
        axis.set_title(_where(some[0]))
        axis.invert_yaxis()
    axes[0][0].legend(fontsize=7)
    figure.savefig(file, dpi=130)
    plt.close(figure)
