"""SGDP and AdamP in timm's registry of optimizers, under names of their own: `import tangential.timm`.

timm's `train.py` imports it with `--device-modules tangential.timm`, and `--opt tangentialadamp` is ours then. timm
takes what follows the last underscore of a name, so `tangential_adamp` would be timm's own AdamP, without a word: these
names have no underscore.

Examples:
    >>> from timm.optim import create_optimizer_v2
    >>> from torch import nn
    >>> optimizer = create_optimizer_v2(nn.Linear(3, 2), "tangentialadamp", lr=1e-3, weight_decay=1e-2)
    >>> type(optimizer).__module__, [group["weight_decay"] for group in optimizer.param_groups]
    ('tangential.optimizers', [0.0, 0.01])
"""

from __future__ import annotations

from timm.optim._optim_factory import OptimInfo, default_registry  # the registry has no public name

from tangential.optimizers import SGDP, AdamP

_PAPER = "of tangential, arXiv 2006.08217"
REGISTERED = (
    OptimInfo("tangentialadamp", AdamP, f"AdamP {_PAPER}", has_betas=True),
    OptimInfo("tangentialsgdp", SGDP, f"SGDP {_PAPER}", has_momentum=True),
)
"""What is in the registry once this module is imported; settings that timm does not pass keep our defaults."""

for _info in REGISTERED:
    default_registry.register(_info)
