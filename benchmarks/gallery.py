"""The page "Is my model scale-invariant?": docs/gallery.md, from what benchmarks/architectures.py found.

python benchmarks/gallery.py
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "benchmarks" / "results" / "architectures.json"
PAGE = ROOT / "docs" / "gallery.md"
KINDS = ("channel", "groups", "layer", "partial")
"""Kinds of blocks that are projected."""

HEAD = """\
---
search:
  boost: 0.5
---
# Is my model scale-invariant?

What `find_invariances` says of {count} architectures of torchvision, timm and transformers (Hugging Face), built by
their constructors with random weights. Made by `python benchmarks/gallery.py` from the results of
`python benchmarks/architectures.py`, which also checks each verdict by brute force. Sizes are reduced where a model
allows it, so there may be fewer layers than in the pretrained models; the kinds do not depend on that. Variants with
other norms or biases may differ: ask `tangential doctor timm:NAME` or `transformers:NAME`.

- **invariant**: how many of the weight matrices and convolutions an optimizer may project, and by which blocks: each
  output *channel*, *groups* of rows (heads), the whole *layer*, or *partial*: some rows only.
- **joint**: weights that are invariant only together with a bias of theirs, and are not projected. Without that bias
  they would be invariant.

<p><label>Find <input id="gallery-filter" type="search" placeholder="resnet, qwen, none, heads, ..."></label>
<span id="gallery-count" role="status"></span></p>

| model | package | invariant | joint | what to do |
| --- | --- | --- | --- | --- |
"""


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text; models that could not be built or analysed are left out of it."""
    rows = sorted(_rows(found))
    return HEAD.format(count=len(rows)) + "\n".join(text for _, text in rows) + "\n"


def _rows(found: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str], str]]:
    for full, each in found.items():
        if "matrices" in each:
            package, _, name = full.partition(" ")
            matrices = Counter(each["matrices"])
            cells = (f"`{name}`", package, _invariant(matrices), str(matrices["joint"] or ""), _advice(matrices))
            yield (name.lower(), package), f"| {' | '.join(cells)} |"


def _invariant(matrices: Counter[str]) -> str:
    kinds = [f"{matrices[kind]} {kind}" for kind in KINDS if matrices[kind]]
    count = sum(matrices[kind] for kind in KINDS)
    return f"{count} of {matrices.total()}: {', '.join(kinds)}" if kinds else f"none of {matrices.total()}"


def _advice(matrices: Counter[str]) -> str:
    if matrices["groups"] or matrices["partial"]:
        return "compare, with the groups of `find_invariances`: the paper's test does not see heads"
    if matrices["channel"] or matrices["layer"]:
        return "compare AdamP with AdamW, SGDP with SGD"
    return "keep AdamW, or drop the biases before the norms" if matrices["joint"] else "keep AdamW"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(FOUND.read_text())))


if __name__ == "__main__":
    main()
