"""Measured blocks of a weight: the rows of all of its blocks, or of an even sample, on the weight's device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tangential.blocks import Blocks, RowBlocks, row_blocks


@dataclass(frozen=True, eq=False)
class BlockRows:
    """The blocks of a weight that are measured.

    Args:
        dim: The dimension that is cut.
        rows: Which of its indices belong to measured blocks, `(measured rows,)`; None for all, in order.
        lengths: How the measured rows are gathered into blocks.
        count: How many blocks are measured.
    """

    dim: int
    rows: Tensor | None
    lengths: RowBlocks
    count: int

    def among(self, sums: Tensor) -> Tensor:
        """The measured rows of sums over all rows: `(..., rows of the weight)` to `(..., measured rows)`."""
        return sums if self.rows is None else sums.index_select(-1, self.rows)

    def of(self, x: Tensor) -> Tensor:
        """The measured rows of a tensor of the weight's shape; the tensor itself if they are all."""
        return x if self.rows is None else x.index_select(self.dim, self.rows)


def block_rows(shape: tuple[int, ...], blocks: Blocks, most: int | None, device: torch.device) -> BlockRows:
    """Blocks of a weight of this shape; built once, so that later steps copy nothing to a device.

    Args:
        shape: At least one dimension.
        blocks: How the weight is cut.
        most: How many blocks to measure at most, evenly spaced; None for all of them.
        device: Where the weight lies.
    """
    # tensors that are made under a mode (fake, traced, inference) are of no use outside of it: never kept
    unusual = torch.is_inference_mode_enabled() or _get_current_dispatch_mode() is not None
    return (_block_rows.__wrapped__ if unusual else _block_rows)(shape, blocks, most, device)


@lru_cache(maxsize=4096)
def _block_rows(shape: tuple[int, ...], blocks: Blocks, most: int | None, device: torch.device) -> BlockRows:
    every = spans(shape, blocks)
    kept = every if most is None or most >= len(every) else [every[i * len(every) // most] for i in range(most)]
    lengths = [stop - start for start, stop in kept]
    everything = sum(lengths) == shape[blocks.dim]
    rows = None if everything else torch.tensor([i for span in kept for i in range(*span)], device=device)
    return BlockRows(blocks.dim, rows, row_blocks(lengths, device), len(kept))


@lru_cache(maxsize=4096)
def spans(shape: tuple[int, ...], blocks: Blocks) -> tuple[tuple[int, int], ...]:
    """`Blocks.spans`, kept: a table of embeddings has as many as words."""
    return blocks.spans(shape)


@lru_cache(maxsize=4096)
def largest_block(shape: tuple[int, ...], blocks: Blocks) -> int:
    """Elements of the largest block; 0 for a weight without blocks or elements."""
    rows = max((stop - start for start, stop in spans(shape, blocks)), default=0)
    return rows * (math.prod(shape) // max(1, shape[blocks.dim]))


def real_rows(x: Tensor) -> Tensor:
    """The tensor detached: complex numbers as pairs in a last dimension, one dimension at least, no lazy bits."""
    x = x.detach().resolve_conj().resolve_neg()
    x = torch.view_as_real(x) if x.is_complex() else x
    return x if x.ndim else x.reshape(1)


def to_float64(x: Tensor) -> Tensor:
    """The tensor in float64, or in float32 on devices that have nothing wider."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
