"""Former names of classes, functions and fields: what saved settings call them, and what they are called now.

`settings.json` of a run holds qualified names, as `tangential.data.digits.Digits`. A class that moves or is renamed
gets a row here, so that runs of earlier versions are still read, shown and gone on with. How to add one:

- a module that moved: `"tangential.old.module": "tangential.new.module"` in `FORMER`;
- a class or function that was renamed: its whole former name (with the module as the last release had it) and its whole
  present name, in `FORMER` too; the longest former name that fits is the one that counts;
- a field or argument that was renamed: `("tangential.new.module.Class", "old_field"): "new_field"` in `FORMER_FIELDS`.

Settings are read in one place, `runs.folder.RunFolder.settings`, which applies this table.
"""

from __future__ import annotations

import re
from typing import Any

_DATA = "tangential.experiments.data"
_NETS = "tangential.experiments.nets"
_TRAINING = "tangential.experiments.training"

FORMER: dict[str, str] = {
    "tangential.data.babble": f"{_DATA}.text.synthetic",
    "tangential.data.babble.Babble": f"{_DATA}.text.synthetic.SyntheticText",
    "tangential.data.balanced": f"{_DATA}.images.class_balanced",
    "tangential.data.biased_mnist": f"{_DATA}.images.biased_mnist",
    "tangential.data.clips": f"{_DATA}.sounds.clips",
    "tangential.data.coco": f"{_DATA}.boxes.coco",
    "tangential.data.digits": f"{_DATA}.images.digits",
    "tangential.data.folders": f"{_DATA}.images.folders",
    "tangential.data.galleries": f"{_DATA}.images.retrieval_sets",
    "tangential.data.generated": f"{_DATA}.images.synthetic",
    "tangential.data.imagenet9": f"{_DATA}.images.imagenet9",
    "tangential.data.images": f"{_DATA}.images.in_memory",
    "tangential.data.omniglot": f"{_DATA}.images.omniglot",
    "tangential.data.pictures": f"{_DATA}.boxes.annotated",
    "tangential.data.shapes": f"{_DATA}.boxes.synthetic",
    "tangential.data.sounds": f"{_DATA}.sounds.decoding",
    "tangential.data.speech": f"{_DATA}.sounds.speech",
    "tangential.data.standard": f"{_DATA}.images.mnist_cifar",
    "tangential.data.streams": f"{_DATA}.text.streams",
    "tangential.data.tagged": f"{_DATA}.sounds.tagged",
    "tangential.data.text": f"{_DATA}.text.corpora",
    "tangential.data.textures": f"{_DATA}.images.textures",
    "tangential.data.tones": f"{_DATA}.sounds.synthetic",
    "tangential.data.units": f"{_DATA}.text.tokenizers",
    "tangential.data.units.Pieces": f"{_DATA}.text.tokenizers.Subwords",
    "tangential.data.views": f"{_DATA}.boxes.transforms",
    "tangential.data.voc": f"{_DATA}.boxes.voc",
    "tangential.holdout": "tangential.experiments.sweep.validation_split",
    "tangential.holdout.HeldOut": "tangential.experiments.sweep.validation_split.ValidationSplit",
    "tangential.nets": _NETS,
    "tangential.nets.adaptive": f"{_NETS}.adaptive_softmax",
    "tangential.nets.heatmaps": f"{_NETS}.centernet_targets",
    "tangential.nets.named": f"{_NETS}.by_name",
    "tangential.nets.named.named": f"{_NETS}.by_name.by_name",
    "tangential.nets.pair": f"{_NETS}.rebias",
    "tangential.nets.relative": f"{_NETS}.relative_attention",
    "tangential.nets.stages": f"{_NETS}.backbones",
    "tangential.schedules": f"{_TRAINING}.schedules",
    "tangential.schedules.drops": f"{_TRAINING}.schedules.multistep",
    "tangential.task": "tangential.experiments.task",
    "tangential.tasks": "tangential.experiments.tasks",
    "tangential.thawing.thawing": f"{_TRAINING}.schedules.step_decay",
}
"""Former names of modules, classes and functions."""

FORMER_FIELDS: dict[tuple[str, str], str] = {
    (f"{_DATA}.text.corpora.TextFile", "units"): "tokenizer",
}
"""Former names of fields and arguments, by the present name of their class or function and their former one."""

ADDED_FIELDS: dict[tuple[str, str], Any] = {}
"""Fields that earlier versions did not have, by the present name of their class, and what those versions did."""

_NAME = re.compile(r"tangential(\.\w+)+")


def current_names(settings: Any) -> Any:
    """Saved settings with the names of the present version.

    Args:
        settings: JSON's own types, as `settings.record.describe` made them in this version or an earlier one.

    Returns:
        The same with every name replaced that `FORMER` or `FORMER_FIELDS` has, and with the fields of `ADDED_FIELDS`;
        present names and fields stay.

    Examples:
        >>> current_names({"class": "tangential.thawing.thawing", "arguments": {"every": 0.1}})["class"]
        'tangential.experiments.training.schedules.step_decay'
    """
    if isinstance(settings, str):
        return _current(settings) if _NAME.fullmatch(settings) else settings
    if isinstance(settings, list):
        return [current_names(each) for each in settings]
    if isinstance(settings, dict):
        named = {key: current_names(value) for key, value in settings.items()}
        return _with_current_fields(named) if isinstance(named.get("class"), str) else named
    return settings


def _current(name: str) -> str:
    parts = name.split(".")
    for count in range(len(parts), 1, -1):
        former = ".".join(parts[:count])
        if former in FORMER:
            return ".".join([FORMER[former], *parts[count:]])
    return name


def _with_current_fields(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a dataclass or a `partial`, whose arguments and defaults stand a level deeper."""
    owner = record["class"]

    def renamed(part: dict[str, Any]) -> dict[str, Any]:
        return {FORMER_FIELDS.get((owner, key), key): value for key, value in part.items()}

    inner = {key: renamed(record[key]) for key in ("arguments", "defaults") if isinstance(record.get(key), dict)}
    added = {field: value for (name, field), value in ADDED_FIELDS.items() if name == owner}
    return added | renamed(record | inner)
