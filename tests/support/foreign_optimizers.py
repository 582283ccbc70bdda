"""Optimizers of other packages: whose state ours continue without a difference, with a small one, or refuse."""

from __future__ import annotations

import adamp
import pytorch_optimizer
import timm.optim
import torch
import torch_optimizer

from support.kozistr_3 import SGDP3, AdamP3
from tangential import SGDP, AdamP

ADAM = dict(lr=1e-2)
DECAYED = dict(lr=1e-2, weight_decay=0.1)
TINY = 1e-30
"""With this eps, its place before or after the bias correction makes no difference."""
SGD = dict(lr=0.1, momentum=0.9)
SGD_DECAYED = dict(**SGD, weight_decay=1e-3)

CONTINUED = {
    "adamp AdamP": (adamp.AdamP, DECAYED, AdamP),
    "adamp AdamP, Nesterov": (adamp.AdamP, dict(**DECAYED, nesterov=True), AdamP),
    "timm AdamP": (timm.optim.AdamP, DECAYED, AdamP),
    "timm AdamP, Nesterov": (timm.optim.AdamP, dict(**DECAYED, nesterov=True), AdamP),
    "timm AdamW": (timm.optim.AdamWLegacy, DECAYED, AdamP),
    "timm NAdamW": (timm.optim.NAdamW, DECAYED, AdamP),
    "torch_optimizer AdamP": (torch_optimizer.AdamP, DECAYED, AdamP),
    "torch_optimizer AdamP, Nesterov": (torch_optimizer.AdamP, dict(**DECAYED, nesterov=True), AdamP),
    "pytorch_optimizer AdamP": (pytorch_optimizer.AdamP, dict(**DECAYED, eps=TINY), AdamP),
    "pytorch_optimizer AdamP, foreach": (pytorch_optimizer.AdamP, dict(**DECAYED, eps=TINY, foreach=True), AdamP),
    "pytorch_optimizer AdamP, Nesterov": (pytorch_optimizer.AdamP, dict(**DECAYED, eps=TINY, nesterov=True), AdamP),
    "pytorch_optimizer 3 AdamP": (AdamP3, dict(**DECAYED, eps=TINY), AdamP),
    "adamp SGDP, Nesterov": (adamp.SGDP, dict(**SGD_DECAYED, nesterov=True), SGDP),
    "timm SGDP": (timm.optim.SGDP, SGD_DECAYED, SGDP),
    "timm SGDW": (timm.optim.SGDW, SGD_DECAYED, SGDP),
    "timm SGDW, Nesterov": (timm.optim.SGDW, dict(**SGD_DECAYED, nesterov=True), SGDP),
    "timm SGDP, Nesterov": (timm.optim.SGDP, dict(**SGD_DECAYED, nesterov=True, dampening=0.0), SGDP),
    "torch_optimizer SGDP, Nesterov": (torch_optimizer.SGDP, dict(**SGD_DECAYED, nesterov=True), SGDP),
    "pytorch_optimizer SGDP": (pytorch_optimizer.SGDP, SGD_DECAYED, SGDP),
    "pytorch_optimizer SGDP, foreach": (pytorch_optimizer.SGDP, dict(**SGD_DECAYED, foreach=True), SGDP),
    "pytorch_optimizer 3 SGDP": (SGDP3, SGD_DECAYED, SGDP),
    "torch AdamW": (torch.optim.AdamW, DECAYED, AdamP),
    "torch AdamW, foreach": (torch.optim.AdamW, dict(**DECAYED, foreach=True), AdamP),
    "torch AdamW, maximize": (torch.optim.AdamW, dict(**DECAYED, maximize=True), AdamP),
    "torch AdamW, fused": (torch.optim.AdamW, dict(**DECAYED, fused=True), AdamP),
    "torch Adam, decoupled": (torch.optim.Adam, dict(**DECAYED, decoupled_weight_decay=True), AdamP),
    "torch Adam": (torch.optim.Adam, ADAM, AdamP),
    "torch SGD": (torch.optim.SGD, dict(lr=0.1), SGDP),
    "torch SGD, momentum": (torch.optim.SGD, SGD, SGDP),
    "torch SGD, dampened": (torch.optim.SGD, dict(**SGD, dampening=0.5), SGDP),
    "torch SGD, Nesterov": (torch.optim.SGD, dict(**SGD, nesterov=True), SGDP),
    "torch SGD, maximize": (torch.optim.SGD, dict(**SGD, maximize=True), SGDP),
}
"""By name: a class, its settings, and ours. Where it projects nothing, ours with `blocks=None` takes the same steps."""

REPORTED = {
    "pytorch_optimizer AdamP": (pytorch_optimizer.AdamP, DECAYED, AdamP, "eps added before", 1e-6),
    "pytorch_optimizer 3 AdamP": (AdamP3, DECAYED, AdamP, "eps added before", 1e-6),
    "pytorch_optimizer 3 AdamP, Nesterov": (
        AdamP3,
        dict(**DECAYED, eps=TINY, nesterov=True),
        AdamP,
        "Nesterov momentum that is not divided",
        0.5,
    ),
    "adamp SGDP": (adamp.SGDP, SGD_DECAYED, SGDP, "projections of the momentum buffer", 10.0),
    "torch_optimizer SGDP": (torch_optimizer.SGDP, SGD_DECAYED, SGDP, "projections of the momentum buffer", 10.0),
}
"""By name: a class, its settings, ours, words of the log, and a bound of the difference after twenty steps."""

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
    "pytorch_optimizer AdamP, coupled decay": (
        pytorch_optimizer.AdamP,
        dict(**DECAYED, weight_decouple=False),
        AdamP,
        "coupled_weight_decay",
    ),
    "pytorch_optimizer AdamP, fixed decay": (
        pytorch_optimizer.AdamP,
        dict(**DECAYED, fixed_decay=True),
        AdamP,
        "fixed_decay=True",
    ),
    "pytorch_optimizer AdamP, adanorm": (
        pytorch_optimizer.AdamP,
        dict(**ADAM, adanorm=True, adanorm_r=0.9),
        AdamP,
        "adanorm=True",
    ),
    "pytorch_optimizer SGDP, coupled decay": (
        pytorch_optimizer.SGDP,
        dict(**SGD_DECAYED, weight_decouple=False),
        SGDP,
        "coupled_weight_decay",
    ),
    "NAdam, decayed": (torch.optim.NAdam, DECAYED, AdamP, "'nadam', 'coupled_weight_decay'"),
    "timm NAdam": (timm.optim.NAdamLegacy, ADAM, AdamP, "nadam"),
    "timm RAdam": (timm.optim.RAdamLegacy, ADAM, AdamP, "another optimizer"),
    "timm LaProp": (timm.optim.LaProp, ADAM, AdamP, "another optimizer"),
    "timm Adopt": (timm.optim.Adopt, ADAM, AdamP, "clip_exp"),
    "timm AdaBelief": (timm.optim.AdaBelief, ADAM, AdamP, "another optimizer"),
    "timm AdamW, amsgrad": (timm.optim.AdamWLegacy, dict(**ADAM, amsgrad=True), AdamP, "amsgrad=True"),
    "timm AdamW, clipped": (timm.optim.AdamWLegacy, dict(**ADAM, clipping_threshold=1.0), AdamP, "clipping_threshold"),
    "timm SGDP, cautious": (timm.optim.SGDP, dict(**SGD, caution=True), SGDP, "caution=True"),
    "timm SGDW, corrected": (
        timm.optim.SGDW,
        dict(**SGD_DECAYED, corrected_weight_decay=True),
        SGDP,
        "shrinks with lr",
    ),
    "StableAdamW": (pytorch_optimizer.StableAdamW, ADAM, AdamP, "another optimizer"),
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

PLAIN = dict(blocks=None)
EXPORTED = {
    "adamw": (AdamP, dict(**DECAYED, **PLAIN), torch.optim.AdamW, {}),
    "adamw, maximize": (AdamP, dict(**DECAYED, **PLAIN, maximize=True), torch.optim.AdamW, {}),
    "adamw, fused": (AdamP, dict(**DECAYED, **PLAIN), torch.optim.AdamW, dict(fused=True)),
    "adamw, never projected": (AdamP, dict(**DECAYED, delta=0.0), torch.optim.AdamW, {}),
    "adamw, into Adam": (AdamP, dict(**DECAYED, **PLAIN), torch.optim.Adam, {}),
    "adamp": (AdamP, DECAYED, adamp.AdamP, {}),
    "adamp, Nesterov": (AdamP, dict(**DECAYED, nesterov=True), adamp.AdamP, {}),
    "adamp, not projected": (AdamP, dict(**DECAYED, **PLAIN), adamp.AdamP, {}),
    "timm": (AdamP, dict(**DECAYED, delta=0.2, wd_ratio=0.5), timm.optim.AdamP, {}),
    "torch_optimizer": (AdamP, DECAYED, torch_optimizer.AdamP, {}),
    "pytorch_optimizer": (AdamP, dict(**DECAYED, eps=TINY), pytorch_optimizer.AdamP, {}),
    "pytorch_optimizer, Nesterov": (AdamP, dict(**DECAYED, eps=TINY, nesterov=True), pytorch_optimizer.AdamP, {}),
    "pytorch_optimizer, 3.x": (AdamP, dict(**DECAYED, eps=TINY), AdamP3, {}),
    "sgd": (SGDP, dict(**SGD, **PLAIN), torch.optim.SGD, {}),
    "sgd, without momentum": (SGDP, dict(lr=0.1, **PLAIN), torch.optim.SGD, {}),
    "sgd, dampened": (SGDP, dict(**SGD, **PLAIN, dampening=0.5), torch.optim.SGD, {}),
    "sgd, Nesterov": (SGDP, dict(**SGD, **PLAIN, nesterov=True), torch.optim.SGD, {}),
    "sgd, maximize": (SGDP, dict(**SGD, **PLAIN, maximize=True), torch.optim.SGD, {}),
    "adamp SGDP, Nesterov": (SGDP, dict(**SGD_DECAYED, nesterov=True), adamp.SGDP, dict(lr=0.5)),
    "adamp SGDP, without momentum": (SGDP, dict(lr=0.1, weight_decay=1e-3), adamp.SGDP, dict(lr=0.5)),
    "adamp SGDP, not projected": (SGDP, dict(**SGD_DECAYED, **PLAIN), adamp.SGDP, dict(lr=0.5)),
    "timm SGDP": (SGDP, SGD_DECAYED, timm.optim.SGDP, dict(lr=0.5)),
    "timm SGDP, Nesterov": (SGDP, dict(**SGD_DECAYED, nesterov=True), timm.optim.SGDP, dict(lr=0.5)),
    "torch_optimizer SGDP, Nesterov": (SGDP, dict(**SGD_DECAYED, nesterov=True), torch_optimizer.SGDP, {}),
    "pytorch_optimizer SGDP": (SGDP, SGD_DECAYED, pytorch_optimizer.SGDP, {}),
    "pytorch_optimizer SGDP, 3.x": (SGDP, SGD_DECAYED, SGDP3, {}),
}
"""By name, which begins with the format: ours, its settings, the class that goes on, and what its constructor needs."""
