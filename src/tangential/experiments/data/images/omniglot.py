"""Omniglot (Lake et al., 2015): handwritten characters of many alphabets, tested on alphabets never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL.Image import Resampling
from torch import Tensor

from tangential.experiments.data.cache import cache_folder, cache_key, cached_tensor, file_state
from tangential.experiments.data.faults import DataError
from tangential.experiments.data.files import is_hidden
from tangential.experiments.data.images.decoding import open_image
from tangential.experiments.data.images.in_memory import InMemory
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.settings.bounds import check_at_least
from tangential.experiments.task import Split

_GET = "https://github.com/brendenlake/omniglot (python/*.zip)"
_VERSION = 2  # of the cached files; to be raised when decoding changes


@dataclass(frozen=True, kw_only=True)
class Omniglot(InMemory):
    """Characters that twenty people drew once each; ink is 255, paper 0.

    Args:
        root: The folder of the data sets, in which the authors' zip files lie under `omniglot`, `omniglot/python` or
            `omniglot-small`; None for the one that `TANGENTIAL_DATA` names.
        train: The file of the training alphabets, without `.zip`.
        test: That of the test alphabets. Alphabets that are in both are left out of the test. The whole data set is
            `images_background` and `images_evaluation`.
        side: Height and width that the 105 pixels of the files are reduced to.
        limit: See `InMemory`, as for the rest.

    Raises:
        ValueError: A side below one, or what `InMemory` raises.
    """

    root: str | None = None
    train: str = "images_background_small1"
    test: str = "images_background_small2"
    side: int = 28

    channels = 1
    mean = (0.08,)
    std = (0.24,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, side=self.side)

    @property
    def classes(self) -> int:
        """Number of characters to train on."""
        return len(self.names("train"))

    def names(self, split: Split) -> list[str]:
        """Names of the characters of one split, `ALPHABET/characterNN`, in the order of their classes."""
        folder = self._folder(getattr(self, split))
        others = set() if split == "train" else _alphabets(self._folder(self.train))
        names = [f"{path.parent.name}/{path.name}" for path in _characters(folder) if path.parent.name not in others]
        if not names:
            raise DataError(f"{folder} has no alphabets that {self.train} has not, so nothing to test on")
        return names

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Read one split; the second time from the cache."""
        folder, names = self._folder(getattr(self, split)), self.names(split)
        files = [_drawings(folder / name) for name in names]
        paths = [path for each in files for path in each]
        key = cache_key(_VERSION, self.side, tuple(map(file_state, paths)))
        images = cached_tensor(cache_folder() / f"omniglot-{split}-{key}.pt", lambda: _drawn(paths, self.side))
        return images, torch.arange(len(names)).repeat_interleave(torch.tensor([len(each) for each in files]))

    def smoke(self) -> Gratings:
        """16 synthetic images of the same size, of four classes."""
        return Gratings(channels=1, classes=4, side=self.side, mean=self.mean, std=self.std)

    def _folder(self, name: str) -> Path:
        places = [f"{home}/{name}.zip" for home in ("omniglot", "omniglot/python", "omniglot-small")]
        archive = locate(self.root, *places, get=_GET, size="10 MB")
        return unpacked(archive) / name


def _alphabets(folder: Path) -> set[str]:
    return {path.parent.name for path in _characters(folder)}


@lru_cache(maxsize=8)
def _characters(folder: Path) -> list[Path]:
    """The folders of all characters, in order; the folder is named after its archive's content, so it does not change.

    Raises:
        DataError: There are none.
    """
    found = sorted({path.parent for path in folder.glob("*/*/*.png") if not _hidden(path, folder)})
    if not found:
        raise DataError(f"{folder} has no ALPHABET/CHARACTER/*.png; get it again from {_GET}")
    return found


def _drawings(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if not is_hidden(path.name))


def _hidden(path: Path, folder: Path) -> bool:
    return any(map(is_hidden, path.relative_to(folder).parts))


def _drawn(paths: Sequence[Path], side: int) -> Tensor:
    """Ink as bytes, `(count, 1, side, side)`; each pixel is the mean over what it covers."""
    images = torch.empty(len(paths), 1, side, side, dtype=torch.uint8)
    for image, path in zip(images, paths, strict=True):
        small = open_image(path).convert("L").resize((side, side), Resampling.BOX)
        image[0] = 255 - torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(side, side)
    return images
