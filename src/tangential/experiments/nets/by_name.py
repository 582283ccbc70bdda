"""Any image model of torchvision or timm, by its name."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

from torch import nn


def by_name(*, channels: int, classes: int, name: str, **settings: Any) -> nn.Module:
    """Image model of torchvision or timm, with random weights.

    Args:
        channels: Channels of the images; torchvision's models take 3 only.
        classes: Number of outputs.
        name: As torchvision calls it, or timm if torchvision has none of that name; `timm:resnet18` and
            `torchvision:resnet18` choose one of the two.
        settings: Keyword arguments of the model: `image_size=32` for torchvision's ViT, `img_size=32` for timm's.

    Raises:
        ValueError: An unknown name (the error lists near ones), or a setting the model does not take.

    Examples:
        >>> by_name(channels=3, classes=7, name="resnet18").fc
        Linear(in_features=512, out_features=7, bias=True)
    """
    library, _, plain = name.rpartition(":")
    if library not in ("", "torchvision", "timm"):
        raise ValueError(f"net.name={name!r}: the library must be torchvision or timm, as in timm:{plain}")
    try:
        if library != "timm" and plain in _models().list_models(module=_models()):
            return _torchvision(plain, channels=channels, classes=classes, **settings)
        if library != "torchvision" and (timm := _timm()) and timm.is_model(plain):
            return timm.create_model(plain, pretrained=False, in_chans=channels, num_classes=classes, **settings)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"net.name={name!r}: {error}") from error
    raise ValueError(f"net.name={name!r}: no such model; {_near(plain)}")


def cifar_resnet18(*, channels: int, classes: int) -> nn.Module:
    """ResNet-18 of torchvision for small images: a first convolution of 3 x 3 without stride, no pooling after it.

    Examples:
        >>> sum(weight.numel() for weight in cifar_resnet18(channels=3, classes=10).parameters())
        11173962
    """
    net = _models().resnet18(num_classes=classes)
    net.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net


def _torchvision(name: str, *, channels: int, classes: int, **settings: Any) -> nn.Module:
    if channels != 3:
        raise ValueError(f"net.name={name!r}: torchvision's models take 3 channels, not {channels}; try timm:{name}")
    return _models().get_model(name, weights=None, num_classes=classes, **settings)


def _models() -> Any:
    """Torchvision's models, imported late: the import takes a second, and most tasks do not need it."""
    return importlib.import_module("torchvision.models")


def _timm() -> Any:
    """The timm package, or None where it is not installed."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError:
        return None


def _near(name: str) -> str:
    timm = _timm()
    known = {*_models().list_models(module=_models()), *(timm.list_models() if timm else ())}
    near = get_close_matches(name, sorted(known), n=4, cutoff=0.5)
    hint = f"near ones are {', '.join(near)}" if near else "see torchvision.models.list_models()"
    return hint if timm else f"{hint}; more with: pip install timm"
