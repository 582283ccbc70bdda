"""The tables of docs/invariance.md: the zoo, the paper's cosine test beside the analysis, and what an analysis costs.

    python benchmarks/invariance.py               all of them
    python benchmarks/invariance.py zoo|test|cost one of them

Each table is written between its two marks on the page, and to benchmarks/results.
"""

from __future__ import annotations

import importlib
import inspect
import resource
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import marks
import torch
from torch import nn

from tangential.experiments.viewers.cosine_test import CosineRecord, cosine_records
from tangential.experiments.viewers.model_spec import ModelAndBatch
from tangential.invariances import find_invariances

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "invariance.md"
RESULTS = Path(__file__).parent / "results"
KINDS = ("channel", "groups", "layer", "partial", "none", "joint", "near", "dead", "inconclusive")


def zoo() -> str:
    """Matrices by answer, for every model of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    models = importlib.import_module("invariances.test_zoo")
    lines = [f"| model | parameters | {' | '.join(KINDS)} |", "| --- " * (2 + len(KINDS)) + "|"]
    for name, model in {**models.SMALL, **models.BIG}.items():
        torch.manual_seed(0)
        net, batch = model.build()
        found = find_invariances(net, **batch) if isinstance(batch, dict) else find_invariances(net, *batch)
        counts = Counter(found.verdict(n).kind for n in found if len(found.verdict(n).shape) > 1)
        size = sum(p.numel() for p in net.parameters()) / 1e6
        lines.append(f"| {name} | {size:.1f} M | {' | '.join(str(counts[kind] or '') for kind in KINDS)} |")
    return "\n".join(lines)


class Batches(nn.Module):
    """A model that draws a new batch at every call: real data, in random order."""

    def __init__(self, model: nn.Module, draw: Callable[[], Any], loss: Callable[[Any, Any], torch.Tensor]) -> None:
        super().__init__()
        self.module, self.draw, self.loss = model, draw, loss  # a prefix that `Invariances` looks through

    def forward(self) -> dict[str, torch.Tensor]:
        """The loss on the next batch."""
        inputs, targets = self.draw()
        return {"loss": self.loss(self.module(inputs), targets)}


def digits_resnet() -> tuple[nn.Module, Callable[[], Any]]:
    """ResNet-18 on scikit-learn's digits, scaled to 32 x 32."""
    from sklearn.datasets import load_digits
    from torchvision.models import resnet18

    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    pixels = nn.functional.interpolate(pixels, size=32).expand(-1, 3, -1, -1)
    targets = torch.tensor(labels)

    def draw() -> Any:
        chosen = torch.randint(len(pixels), (32,))
        return pixels[chosen], targets[chosen]

    return resnet18(num_classes=10), draw


def text_gpt() -> tuple[nn.Module, Callable[[], Any]]:
    """A GPT of two layers with QK-norm on characters: the source of Python's own `inspect`."""
    sys.path.insert(0, str(ROOT / "tests"))
    gpt = importlib.import_module("support.zoo").GPT
    text = torch.tensor([min(ord(c), 127) for c in inspect.getsource(inspect)])

    def draw() -> Any:
        starts = torch.randint(len(text) - 65, (16,))
        rows = torch.stack([text[s : s + 65] for s in starts.tolist()])
        return rows[:, :-1], rows[:, 1:]

    return gpt(vocabulary=128, width=64), draw


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of both models."""
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def test(steps: int = 200) -> str:
    """False hits, misses and wrong views of the paper's test over real training steps."""
    lines = [
        "| model, data | steps | variant matrices | false hits | invariant matrices | misses | wrong view | flips |",
        "| --- " * 8 + "|",
    ]
    for name, build in {"ResNet-18, digits": digits_resnet, "GPT with QK-norm, source code": text_gpt}.items():
        torch.manual_seed(0)
        model, draw = build()
        found = find_invariances(model, draw()[0])
        seen = cosine_records(ModelAndBatch(Batches(model, draw, cross_entropy)), found, steps)
        lines.append(f"| {name} | {steps} | {_counts(seen, steps)} |")
    return "\n".join(lines)


def _counts(seen: list[CosineRecord], steps: int) -> str:
    variant = [each for each in seen if not each.invariant]
    known = [each for each in seen if each.invariant]
    cells = [
        str(len(variant)),
        f"{sum(e.false_hits for e in variant)} of {len(variant) * steps}",
        str(len(known)),
        f"{sum(e.misses for e in known)} of {len(known) * steps}",
        f"{sum(e.wrong_view for e in known)} of {len(known) * steps}",
        str(sum(e.flips for e in seen)),
    ]
    return " | ".join(cells)


def cost() -> str:
    """CPU time on one thread against a plain forward and backward, and peak memory on top."""
    from torchvision.models import resnet50

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, batch = resnet50(), torch.randn(4, 3, 64, 64)

    def plain() -> float:
        model.zero_grad()
        start = time.process_time()
        model(batch).sum().backward()
        return time.process_time() - start

    plain()
    once = statistics.median(plain() for _ in range(7))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    find_invariances(model, batch)
    ratio = (time.process_time() - start) / once
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return "\n".join(
        [
            "| ResNet-50, batch 4, 64 x 64, one thread | |",
            "| --- | --- |",
            f"| CPU time, in plain forward and backward passes | {ratio:.1f} |",
            f"| peak memory on top of those | {extra:.0f} MB |",
        ]
    )


TABLES = {"cost": cost, "test": test, "zoo": zoo}


def main(names: list[str]) -> None:
    """Write these tables to the page."""
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = TABLES[name]()
        PAGE.write_text(marks.replaced(PAGE.read_text(), name, table + "\n"))
        (RESULTS / f"invariance-{name}.md").write_text(table + "\n")
        sys.stdout.write(f"{name}\n{table}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or list(TABLES))
