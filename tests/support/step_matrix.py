"""The rules, kinds of blocks and shapes over which every backend is tested."""

from support.weights import SHAPES
from tangential import SGDP, AdamP, Blocks

RULES = {
    "adamp": (AdamP, dict(lr=1e-2, weight_decay=0.1)),
    "adamp-nesterov": (AdamP, dict(lr=1e-2, weight_decay=0.1, nesterov=True)),
    "sgdp": (SGDP, dict(lr=1e-2, weight_decay=0.1, momentum=0.9)),
    "sgdp-nesterov": (SGDP, dict(lr=1e-2, weight_decay=0.1, momentum=0.9, dampening=0.2, nesterov=True)),
}

BLOCKS = {
    "cosine": "cosine",
    "none": None,
    "channel": Blocks(),
    "layer": Blocks(size=None),
    "heads": Blocks(size=2),
    "transposed": Blocks(dim=1),
    "fused": Blocks(segments=((0, 4, 2), (5, 6, 1))),
}

FITS = {"heads": [(8, 3, 3, 3), (6, 7), (30, 40)], "fused": [(8, 3, 3, 3), (6, 7), (30, 40), (9, 5, 4)]}


def fits(kind, shape):
    """Whether a weight of this shape may have these blocks: it has rows, and no block is a single element."""
    blocks = BLOCKS.get(kind)
    return not isinstance(blocks, Blocks) or (len(shape) > 1 and blocks.smallest(shape) != 1)


def shapes_for(kind):
    return FITS.get(kind) or [s for s in SHAPES if fits(kind, s)]
