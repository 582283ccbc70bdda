"""Optimizers of other packages: whose state ours continue without a difference, and whose they refuse."""

from __future__ import annotations

import adamp
import pytorch_optimizer
import timm.optim
import torch

from tangential import SGDP, AdamP

ADAM = dict(lr=1e-2)
DECAYED = dict(lr=1e-2, weight_decay=0.1)
SGD = dict(lr=0.1, momentum=0.9)
SGD_DECAYED = dict(**SGD, weight_decay=1e-3)

CONTINUED = {
    "adamp AdamP": (adamp.AdamP, DECAYED, AdamP),
    "adamp AdamP, Nesterov": (adamp.AdamP, dict(**DECAYED, nesterov=True), AdamP),
    "timm AdamP": (timm.optim.AdamP, DECAYED, AdamP),
    "adamp SGDP, Nesterov": (adamp.SGDP, dict(**SGD_DECAYED, nesterov=True), SGDP),
    "timm SGDP": (timm.optim.SGDP, SGD_DECAYED, SGDP),
    "timm SGDP, Nesterov": (timm.optim.SGDP, dict(**SGD_DECAYED, nesterov=True, dampening=0.0), SGDP),
    "pytorch_optimizer SGDP": (pytorch_optimizer.SGDP, SGD_DECAYED, SGDP),
    "torch AdamW": (torch.optim.AdamW, DECAYED, AdamP),
    "torch AdamW, foreach": (torch.optim.AdamW, dict(**DECAYED, foreach=True), AdamP),
    "torch AdamW, maximize": (torch.optim.AdamW, dict(**DECAYED, maximize=True), AdamP),
    "torch Adam": (torch.optim.Adam, ADAM, AdamP),
    "torch SGD": (torch.optim.SGD, dict(lr=0.1), SGDP),
    "torch SGD, momentum": (torch.optim.SGD, SGD, SGDP),
    "torch SGD, dampened": (torch.optim.SGD, dict(**SGD, dampening=0.5), SGDP),
    "torch SGD, Nesterov": (torch.optim.SGD, dict(**SGD, nesterov=True), SGDP),
    "torch SGD, maximize": (torch.optim.SGD, dict(**SGD, maximize=True), SGDP),
}
"""By name: a class, its settings, and ours. Of torch's own, ours with `blocks=None` takes the same steps."""

REFUSED = {
    "AdamW, amsgrad": (torch.optim.AdamW, dict(**DECAYED, amsgrad=True), AdamP, "amsgrad=True"),
    "Adam, coupled decay": (torch.optim.Adam, DECAYED, AdamP, "decoupled_weight_decay=True"),
    "NAdam": (torch.optim.NAdam, ADAM, AdamP, "another optimizer"),
    "RAdam": (torch.optim.RAdam, ADAM, AdamP, "another optimizer"),
    "Adamax": (torch.optim.Adamax, ADAM, AdamP, "another optimizer"),
    "RMSprop": (torch.optim.RMSprop, ADAM, AdamP, "another optimizer"),
    "Adagrad": (torch.optim.Adagrad, ADAM, AdamP, "another optimizer"),
    "SGD to AdamP": (torch.optim.SGD, SGD, AdamP, "another optimizer"),
    "SGDP to AdamP": (SGDP, SGD, AdamP, "another optimizer"),
    "adamp SGDP to AdamP": (adamp.SGDP, SGD, AdamP, "another optimizer"),
    "pytorch_optimizer AdamP": (pytorch_optimizer.AdamP, ADAM, AdamP, "weight_decouple"),
    "timm AdamP, cautious": (timm.optim.AdamP, dict(**ADAM, caution=True), AdamP, "caution=True"),
    "timm Lamb": (timm.optim.Lamb, ADAM, AdamP, "another optimizer"),
    "timm Lars": (timm.optim.Lars, SGD, SGDP, "another optimizer"),
    "SGD, coupled decay": (torch.optim.SGD, SGD_DECAYED, SGDP, "weight_decay=0"),
    "RMSprop to SGDP": (torch.optim.RMSprop, dict(lr=0.1, momentum=0.9), SGDP, "another optimizer"),
    "Adagrad to SGDP": (torch.optim.Adagrad, dict(lr=0.1), SGDP, "another optimizer"),
    "AdamW to SGDP": (torch.optim.AdamW, DECAYED, SGDP, "another optimizer"),
    "AdamP to SGDP": (AdamP, ADAM, SGDP, "another optimizer"),
    "adamp AdamP to SGDP": (adamp.AdamP, ADAM, SGDP, "another optimizer"),
    "Muon to SGDP": (torch.optim.Muon, dict(lr=0.1), SGDP, "another optimizer"),
}
"""By name: a class, its settings, ours, and words of the refusal."""
