"""AdamP and SGDP with the state of `pytorch_optimizer` 3.x, which cannot be installed beside 4.x.

Written from the layout of its state dicts and the formulas of the paper: the step count lies in the group, `maximize`
on the optimizer, and three things are as 3.x has them: `eps` is added before the bias correction, Nesterov momentum of
AdamP is not divided by the root of the second moment, and the buffer of SGDP is called `momentum`.
"""

from __future__ import annotations

import torch
from torch import Tensor


class _Projected(torch.optim.Optimizer):
    def __init__(self, params, **settings):
        extra = dict(weight_decay=0.0, weight_decouple=True, fixed_decay=False)
        super().__init__(params, {**extra, "delta": 0.1, "wd_ratio": 0.1, "nesterov": False, "eps": 1e-8, **settings})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            for p in (p for p in group["params"] if p.grad is not None):
                direction = self.direction(group, self.state[p], p.grad)
                direction, ratio = project(group, p, direction)
                p.mul_(1 - group["lr"] * group["weight_decay"] * ratio * self.decay(group))
                p.sub_(group["lr"] * direction)


class AdamP3(_Projected):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), **settings):
        super().__init__(params, lr=lr, betas=betas, **settings)

    def direction(self, group, own, g):
        b1, b2 = group["betas"]
        for key in ("exp_avg", "exp_avg_sq"):
            own.setdefault(key, torch.zeros_like(g))
        own["exp_avg"].mul_(b1).add_((1 - b1) * g)
        own["exp_avg_sq"].mul_(b2).add_((1 - b2) * g * g)
        first, second = 1 - b1 ** group["step"], 1 - b2 ** group["step"]
        scaled = second**0.5 / (own["exp_avg_sq"].sqrt() + group["eps"])
        if group["nesterov"]:
            return (b1 * own["exp_avg"] + (1 - b1) * g * scaled) / first
        return own["exp_avg"] * scaled / first

    def decay(self, group):
        return 1.0


class SGDP3(_Projected):
    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, **settings):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, **settings)

    def direction(self, group, own, g):
        buffer = own.setdefault("momentum", torch.zeros_like(g))
        buffer.mul_(group["momentum"]).add_((1 - group["dampening"]) * g)
        return g + group["momentum"] * buffer if group["nesterov"] else buffer.clone()

    def decay(self, group):
        return 1 / (1 - group["momentum"])


def project(group, w: Tensor, u: Tensor) -> tuple[Tensor, float]:
    """`u` without its radial part, by channel or by layer, where gradient and weight are orthogonal; and the decay."""
    if w.ndim < 2:
        return u, 1.0
    for rows in (w.shape[0], 1):
        x, g, v = (t.reshape(rows, -1) for t in (w, w.grad, u))
        cosine = torch.nn.functional.cosine_similarity(g, x, dim=1, eps=group["eps"]).abs().max()
        if cosine < group["delta"] / x.shape[1] ** 0.5:
            unit = x / (x.norm(dim=1, keepdim=True) + group["eps"])
            return (v - unit * (unit * v).sum(1, keepdim=True)).view_as(u), group["wd_ratio"]
    return u, 1.0
