"""The optimizers whose state is read, by package: what their groups look like and what sets each apart.

Each row was written from the state dicts of the package and is tested by twenty steps there and twenty more in both.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tangential.optimizers.origins import Difference, Group, Origin


def _number(value: Any) -> Any:
    """What a saved setting is, tensors of one element being numbers."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 and not value.is_meta else None
    return value


def _has(group: Group, key: str) -> bool:
    """Whether a setting is there and is not zero, off or None."""
    value = _number(group.get(key))
    return value is not None and bool(value != 0)


def _setting(key: str, same: Any, words: str, *entries: str, decay: bool = False) -> Difference:
    """A setting that is continued at one value only; one of the decay's matters where there is decay."""

    def of(group: Group) -> str | None:
        if key not in group or _number(group[key]) == same or (decay and not _has(group, "weight_decay")):
            return None
        return f"{key}={group[key]!r} ({words})"

    return Difference(name=key, of=of, entries=frozenset(entries))


def _always(name: str, words: str, *entries: str) -> Difference:
    return Difference(name=name, of=lambda group: words, entries=frozenset(entries))


def _coupled(decoupled: str | None) -> Difference:
    """Weight decay that is added to the gradient, unless the setting `decoupled` is on."""

    def of(group: Group) -> str | None:
        if not _has(group, "weight_decay") or (decoupled and _has(group, decoupled)):
            return None
        if decoupled is None:
            return "weight decay added to the gradient (SGDP's is decoupled; or set weight_decay=0 in its groups)"
        if decoupled in group:
            return f"weight decay added to the gradient ({decoupled}=True in its groups would decouple it)"
        return f"weight decay of a kind that this version did not record (AdamW's: set {decoupled}=True in its groups)"

    return Difference(name="coupled_weight_decay", of=of)


def _early_eps(group: Group) -> str | None:
    return "eps added before the bias correction of the second moment (here after it)"


def _undivided_nesterov(group: Group) -> str | None:
    if "foreach" in group or not _has(group, "nesterov"):
        return None
    return "Nesterov momentum that is not divided by the root of the second moment, if 3.x saved it (here it is)"


def _projected_buffer(group: Group) -> str | None:
    if _has(group, "nesterov") or not _has(group, "momentum"):
        return None
    return "projections of the momentum buffer, in place (here it is never projected)"


def _divided_decay(group: Group) -> dict[str, Any]:
    """The decay that SGDP divides by 1 - momentum, from one that is not divided."""
    decay, momentum = _number(group.get("weight_decay")), _number(group.get("momentum"))
    known = isinstance(decay, (int, float)) and isinstance(momentum, (int, float))
    return {"weight_decay": decay * (1 - momentum)} if known else {}


def _late_dampening(group: Group) -> str | None:
    dampened = _has(group, "momentum") and _has(group, "dampening")
    return (
        "a first step without dampening (here it acts on the first gradient of a parameter too)" if dampened else None
    )


_SHARED = frozenset({"lr", "eps", "weight_decay", "maximize"})
_PROJECTED = _SHARED | {"delta", "wd_ratio", "nesterov"}
_ADAM = _SHARED | {"betas"}
_MOMENTUM = frozenset({"momentum", "dampening"})

_AMSGRAD = _setting("amsgrad", False, "a running maximum of the second moment", "max_exp_avg_sq", "max_exp_avg_sqs")
_CAUTION = _setting("caution", False, "a mask of cautious steps")
_TIMM = (
    _CAUTION,
    _setting("corrected_weight_decay", False, "decay that shrinks with lr", decay=True),
    _setting("clipping_threshold", None, "clipped steps"),
)
_KOZISTR = (  # pytorch_optimizer, 3.x and 4.x
    _coupled("weight_decouple"),
    _setting("fixed_decay", False, "decay that is not multiplied by lr", decay=True),
    _setting("cautious", False, "a mask of cautious steps"),
    _setting("use_gc", False, "centralised gradients"),
    _setting("adam_debias", False, "a first moment without bias correction"),
    _setting("adanorm", False, "rescaled gradients", "exp_grad_adanorm"),
)
_COUPLED_ADAM = _coupled("decoupled_weight_decay")
_RECORDED = frozenset({"decoupled_weight_decay"})

OF_ADAMP = (
    Origin(
        name="AdamP of pytorch_optimizer",
        marks=frozenset({"betas", "wd_ratio", "weight_decouple"}),
        settings=_PROJECTED | {"betas"},
        ignored=frozenset({"step", "weight_decouple", "adanorm_r"}),
        differences=(
            *_KOZISTR,
            Difference(name="eps", of=_early_eps, refused=False),
            Difference(name="nesterov", of=_undivided_nesterov, refused=False),
        ),
        counts="group",
    ),
    Origin(
        name="AdamP of adamp, timm or torch_optimizer",
        marks=frozenset({"betas", "wd_ratio"}),
        settings=_PROJECTED | {"betas"},
        differences=(_CAUTION,),
    ),
    Origin(
        name="AdamW of timm",
        marks=frozenset({"betas", "amsgrad", "caution"}),
        settings=_ADAM,
        ignored=frozenset({"max_lr_snapshot"}),
        differences=(_AMSGRAD, *_TIMM),
    ),
    Origin(
        name="NAdamW of timm",  # AdamW with Nesterov momentum
        marks=frozenset({"betas", "caution", "maximize", "capturable"}),
        settings=_ADAM,
        implied=lambda group: {"nesterov": True},
        ignored=frozenset({"max_lr_snapshot"}),
        differences=_TIMM,
    ),
    Origin(
        name="Adam or AdamW of torch",
        marks=frozenset({"betas", "amsgrad"}),
        settings=_ADAM,
        ignored=_RECORDED,
        differences=(_AMSGRAD, _COUPLED_ADAM),
    ),
    Origin(
        name="NAdam of torch",
        marks=frozenset({"betas", "momentum_decay"}),
        settings=_ADAM,
        ignored=_RECORDED | {"momentum_decay"},
        differences=(_always("nadam", "NAdam's schedule of momentum", "mu_product"), _COUPLED_ADAM),
    ),
    Origin(
        name="NAdam of timm",
        marks=frozenset({"betas", "schedule_decay"}),
        settings=_ADAM,
        ignored=frozenset({"schedule_decay"}),
        differences=(_always("nadam", "NAdam's schedule of momentum", "m_schedule"), _COUPLED_ADAM),
    ),
    Origin(
        name="RAdam of torch",
        marks=frozenset({"betas", "decoupled_weight_decay"}),
        settings=_ADAM,
        ignored=_RECORDED,
        differences=(_always("radam", "RAdam's rectification of steps"), _COUPLED_ADAM),
    ),
)
OF_SGDP = (
    Origin(
        name="SGDP of pytorch_optimizer",
        marks=frozenset({"momentum", "wd_ratio", "weight_decouple"}),
        settings=_PROJECTED | _MOMENTUM,
        ignored=frozenset({"step", "weight_decouple"}),
        differences=_KOZISTR,
        renamed={"momentum": "momentum_buffer"},
        counts="group",
    ),
    Origin(
        name="SGDP of timm",
        marks=frozenset({"momentum", "wd_ratio", "caution"}),
        settings=_PROJECTED | _MOMENTUM,
        differences=(_CAUTION,),
        renamed={"momentum": "momentum_buffer"},
        counts=None,
    ),
    Origin(
        name="SGDP of adamp or torch_optimizer",
        marks=frozenset({"momentum", "wd_ratio"}),
        settings=_PROJECTED | _MOMENTUM,
        differences=(Difference(name="momentum", of=_projected_buffer, refused=False),),
        renamed={"momentum": "momentum_buffer"},
        counts=None,
    ),
    Origin(
        name="SGDW of timm",
        marks=frozenset({"momentum", "dampening", "nesterov", "caution"}),
        settings=frozenset({"lr", "weight_decay", "nesterov", "maximize"}) | _MOMENTUM,
        implied=_divided_decay,
        ignored=frozenset({"max_lr_snapshot"}),
        differences=(*_TIMM, Difference(name="dampening", of=_late_dampening, refused=False)),
        counts=None,
    ),
    Origin(
        name="SGD of torch",
        marks=frozenset({"momentum", "dampening", "nesterov"}),
        settings=frozenset({"lr", "weight_decay", "nesterov", "maximize"}) | _MOMENTUM,
        differences=(_coupled(None), Difference(name="dampening", of=_late_dampening, refused=False)),
        counts=None,
    ),
)
