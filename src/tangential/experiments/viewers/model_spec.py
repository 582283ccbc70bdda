"""Model specifications: `timm:resnet50`, `transformers:qwen3`, `file.py:build`, each with a batch for it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tangential.experiments.settings.suggestion import did_you_mean
from tangential.experiments.viewers.model_forms import FORMS


@dataclass(frozen=True)
class ModelCode:
    """The Python that makes a model and its batch, for the reader to paste.

    Attributes:
        imports: Names of packages, or whole lines.
        lines: Statements; one of them assigns `model`.
        arguments: The batch, as it stands in a call after `model`.
    """

    imports: tuple[str, ...] = ()
    lines: tuple[str, ...] = ("model = ...  # yours",)
    arguments: str = "batch"


@dataclass(frozen=True)
class ModelAndBatch:
    """A model, what it is called with, and the code that makes both."""

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    code: ModelCode = ModelCode()


def load(spec: str, settings: Mapping[str, Any], batch: Sequence[int] | None) -> ModelAndBatch:
    """Build the model of a specification, its weights random from torch's global generator, and a batch for it.

    Args:
        spec: See `FORMS`. A function in a file returns a model, or a model and its batch: a tuple of arguments, or a
            dict of named ones.
        settings: Keyword arguments for what makes the model or its configuration.
        batch: The shape of the batch: of images, or of tokens for transformers.

    Raises:
        ValueError: A name, setting, file or shape that cannot be used.

    Examples:
        >>> parse_shape("8x3x64x64")
        (8, 3, 64, 64)
    """
    source, _, name = spec.rpartition(":")
    if not source or not name:
        raise ValueError(f"{spec}: must be {FORMS}")
    try:
        if source.endswith(".py"):
            return _from_file(Path(source), name, settings, batch)
        makers = {"torchvision": _from_torchvision, "timm": _from_timm, "transformers": _from_transformers}
        if source in makers:
            return makers[source](name, settings, batch)
    except (TypeError, RuntimeError, KeyError) as error:
        raise ValueError(f"{spec}: {type(error).__name__}: {error}") from error
    raise ValueError(f"{spec}: must be {FORMS}")


def parse_shape(text: str) -> tuple[int, ...]:
    """Read `8x3x224x224`.

    Raises:
        ValueError: Something else, or a size below 1.
    """
    sizes = text.split("x")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise ValueError(f"batch {text!r}: must be sizes of at least 1 joined by x, like 8x3x224x224")
    return tuple(map(int, sizes))


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` pairs; values are Python's literals, or text.

    Raises:
        ValueError: A piece without `=`.

    Examples:
        >>> parse_settings(["qk_norm=True", "num_classes=10", "act=gelu"])
        {'qk_norm': True, 'num_classes': 10, 'act': 'gelu'}
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{assignment!r}: must be NAME=VALUE, an argument of what makes the model")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[name] = text
    return settings


def _from_torchvision(name: str, settings: Mapping[str, Any], batch: Sequence[int] | None) -> ModelAndBatch:
    models = _package("torchvision").models
    detectors = models.list_models(module=models.detection)
    if name not in models.list_models():
        meant = did_you_mean(name, models.list_models())
        raise ValueError(f"torchvision has no model {name!r}{meant or '; torchvision.models.list_models() lists them'}")
    offline = {"weights_backbone": None} if name in detectors else {}
    model = models.get_model(name, weights=None, **offline, **settings)
    shape = _shape(batch, (8, 3, 64, 64))
    images = torch.randn(shape)
    make = f"model = torchvision.models.get_model({name!r}, weights=None{_written({**offline, **settings})})"
    if name not in detectors:
        return ModelAndBatch(model, (images,), code=ModelCode(("torchvision",), (make,), f"torch.randn{shape}"))
    targets = '[{"boxes": torch.tensor([[5.0, 5.0, 30.0, 40.0]]), "labels": torch.tensor([1])}'
    lines = (make, f"images = list(torch.rand{shape})", f"targets = {targets} for _ in images]")
    return ModelAndBatch(model, _boxed(images), code=ModelCode(("torchvision",), lines, "images, targets"))


def _from_timm(name: str, settings: Mapping[str, Any], batch: Sequence[int] | None) -> ModelAndBatch:
    timm = _package("timm")
    if not timm.is_model(name):
        meant = did_you_mean(name, timm.list_models())
        raise ValueError(f"timm has no model {name!r}{meant or '; timm.list_models() lists them'}")
    model = timm.create_model(name, pretrained=False, **settings)
    size = model.default_cfg.get("input_size", (3, 224, 224)) if hasattr(model, "default_cfg") else (3, 224, 224)
    shape = _shape(batch, (4, *size))
    make = f"model = timm.create_model({name!r}{_written(settings)})"
    return ModelAndBatch(model, (torch.randn(shape),), code=ModelCode(("timm",), (make,), f"torch.randn{shape}"))


def _from_transformers(name: str, settings: Mapping[str, Any], batch: Sequence[int] | None) -> ModelAndBatch:
    transformers = _package("transformers")
    known = Path(name).exists()
    config = (
        transformers.AutoConfig.from_pretrained(name, local_files_only=True, **settings)
        if known
        else transformers.AutoConfig.for_model(name, **settings)
    )
    causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    maker = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    shape, size = _shape(batch, (2, 24)), config.get_text_config().vocab_size
    tokens = torch.randint(0, size, shape)
    getter = "from_pretrained" if known else "for_model"
    lines = (
        f"config = transformers.AutoConfig.{getter}({name!r}{_written(settings)})",
        f"model = transformers.{maker.__name__}.from_config(config)",
        f"tokens = torch.randint(0, {size}, {shape})",
    )
    code = ModelCode(("transformers",), lines, "input_ids=tokens" + (", labels=tokens" if causal else ""))
    batch_of = {"input_ids": tokens, **({"labels": tokens} if causal else {})}
    return ModelAndBatch(maker.from_config(config), kwargs=batch_of, code=code)


def _from_file(path: Path, name: str, settings: Mapping[str, Any], batch: Sequence[int] | None) -> ModelAndBatch:
    made = function_in(path, name)(**settings)
    model, given = made if isinstance(made, tuple) else (made, None)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{path}:{name} returned {type(model).__name__}; must be a module, or (module, batch)")
    call = f"{name}({_written(settings).removeprefix(', ')})"
    imports = (f"from {path.stem} import {name}",)
    if batch is not None:
        make = f"model = {call}" if given is None else f"model, _ = {call}"
        return ModelAndBatch(model, (torch.randn(batch),), code=ModelCode(imports, (make,), f"torch.randn{batch}"))
    if given is None:
        raise ValueError(f"{path}:{name} returned no batch; give its shape: --batch 8x3x224x224")
    kwargs = dict(given) if isinstance(given, Mapping) else {}
    args = tuple(given) if isinstance(given, (tuple, list)) else () if kwargs else (given,)
    stars = "**" if kwargs else "*" if isinstance(given, (tuple, list)) else ""
    return ModelAndBatch(model, args, kwargs, code=ModelCode(imports, (f"model, batch = {call}",), f"{stars}batch"))


def function_in(path: Path, name: str) -> Callable[..., Any]:
    """Run a Python file and return the function of this name.

    Raises:
        ValueError: There is no such file, or it has no such function.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        meant = did_you_mean(name, (each for each, value in vars(module).items() if callable(value)))
        raise ValueError(f"{path}: has no function {name}{meant}")
    return function


def _written(settings: Mapping[str, Any]) -> str:
    """Keyword arguments as they stand in a call after the first argument."""
    return "".join(f", {name}={value!r}" for name, value in settings.items())


def _boxed(images: Tensor) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """What torchvision's detectors train on: a list of images, and two boxes for each."""
    height, width = images.shape[-2:]
    corners = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.8]])
    boxes = corners * torch.tensor([width, height, width, height])
    return list(images.sigmoid()), [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]


def _shape(batch: Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(batch) if batch is not None else default


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; run: pip install {name}") from error
