"""9-class ImageNet (Bahng et al., 2020): nine kinds of animals, tested by texture clusters and on ImageNet-A."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tangential.experiments.data.cache import cache_folder, cache_key, cached_tensor, file_state
from tangential.experiments.data.faults import DataError, warn_left_out
from tangential.experiments.data.images.folders import MEAN, STD, Files, class_folders, cut_at_random, cut_from_centre
from tangential.experiments.data.images.in_memory import Images, loader
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.images.textures import clusters, grams, texture_net
from tangential.experiments.data.locations import locate
from tangential.experiments.task import Split

GROUPS: dict[str, tuple[int, ...]] = {
    "dog": (151, 207, 234, 235, 254),
    "cat": (281, 282, 283, 284, 285),
    "frog": (30, 31, 32),
    "turtle": (33, 34, 35, 36, 37),
    "bird": (89, 90, 94, 96, 97),
    "monkey": (372, 373, 374, 375, 378),
    "fish": (393, 394, 395, 396, 397),
    "crab": (118, 119, 120, 121),
    "insect": (306, 307, 308, 309, 310),
}
"""The nine classes, as indices of ImageNet's thousand in the order of their folders' names."""

_VERSION = 2  # of the cached files; to be raised when decoding or clustering changes

RUNS = 3
"""How often the textures are clustered; the score is the mean."""


@dataclass(frozen=True, kw_only=True)
class ImageNet9:
    """The images of `GROUPS` from ImageNet, and for the test also those from ImageNet-A.

    Test batches have two more tensors: which test set an image is of (0: ImageNet, 1: ImageNet-A), and its texture
    cluster in each clustering, `(batch, 3)`; -1 for ImageNet-A.

    Args:
        root: The folder of the data sets, with `imagenet/train`, `imagenet/val`, `imagenet-a` and torchvision's
            `vgg16-397923af.pth`; None for the one that `TANGENTIAL_DATA` names.
        side: Height and width of what the net sees, in pixels.
        resize: Shorter side of a test image before its centre is cut out.
        least: Cells of class and cluster with fewer images do not count.
    """

    root: str | None = None
    side: int = 224
    resize: int = 256
    least: int = 10

    channels = 3
    classes = len(GROUPS)
    mean = MEAN
    std = STD

    def load(self, split: Split) -> Files:
        """Open one split; the first time, the test images are clustered, which takes some minutes."""
        train = self._folder("imagenet/train", "https://image-net.org/download", "150 GB")
        names = class_folders(train).classes
        if len(names) != 1000:
            raise ValueError(
                f"{train} has {len(names)} class folders; the nine classes are defined among ImageNet's 1000"
            )
        group = {names[index]: number for number, members in enumerate(GROUPS.values()) for index in members}
        if split == "train":
            return Files(_chosen(train, group), cut_at_random(self.side))
        plain = _chosen(self._folder("imagenet/val", "https://image-net.org/download", "7 GB"), group)
        hard = _chosen(self._folder("imagenet-a", "https://github.com/hendrycks/natural-adv-examples", "700 MB"), group)
        tests = torch.tensor([0] * len(plain) + [1] * len(hard))
        cells = torch.cat([self._clusters(plain), torch.full((len(hard), RUNS), -1)])
        return Files([*plain, *hard], cut_from_centre(self.side, self.resize), tests, cells)

    def scores(self, right: Tensor, classes: Tensor, tests: Tensor, cells: Tensor) -> dict[str, float]:
        """Measure each test set, and the first one cell by cell.

        Returns:
            `biased_accuracy`, over ImageNet's images; `unbiased_accuracy`, the mean over the cells of class and cluster
            with enough images, then over the clusterings; `imagenet_a_accuracy`. From 0 to 1.
        """
        return cluster_scores(right, classes, tests, cells, least=self.least)

    def smoke(self) -> GeneratedImageNet9:
        """A few synthetic images, clustered the same way by an untrained net."""
        return GeneratedImageNet9()

    def _folder(self, name: str, get: str, size: str) -> Path:
        return locate(self.root, name, get=get, size=size)

    def _clusters(self, samples: Sequence[tuple[str, int]]) -> Tensor:
        """The clusters of the test images, from the cache if they were made before."""
        name = "vgg16-397923af.pth"
        weights = locate(self.root, name, get=f"https://download.pytorch.org/models/{name}", size="528 MB")
        files = tuple((file_state(path), number) for path, number in samples)
        key = cache_key(_VERSION, file_state(weights), self.side, self.resize, files)
        stored = cache_folder() / f"imagenet9-clusters-{key}.pt"
        images = Files(samples, cut_from_centre(self.side, self.resize))

        def compute() -> Tensor:
            rows = grams(texture_net(weights), loader(images, batch_size=32))
            return clusters(rows, count=len(GROUPS), runs=RUNS)

        return cached_tensor(stored, compute)


@dataclass(frozen=True, kw_only=True)
class GeneratedImageNet9:
    """Generated images with the marks that `ImageNet9` has, for a check that needs no data."""

    channels = 3
    classes = len(GROUPS)
    mean = MEAN
    std = STD

    def load(self, split: Split) -> Images:
        """Draw one split."""
        images = Gratings(classes=self.classes, side=32, count=18 if split == "test" else 16).load(split)
        if split == "train":
            return images
        torch_state = torch.get_rng_state()
        torch.manual_seed(0)
        cells = clusters(grams(texture_net(None), loader(images, batch_size=9)), count=3, runs=RUNS)
        torch.set_rng_state(torch_state)
        tests = torch.arange(len(images)) % 2
        return Images(images.images, images.classes, tests, torch.where(tests[:, None] == 0, cells, -1))

    def scores(self, right: Tensor, classes: Tensor, tests: Tensor, cells: Tensor) -> dict[str, float]:
        """Measure as `ImageNet9` does, every cell counting."""
        return cluster_scores(right, classes, tests, cells, least=1)

    def smoke(self) -> GeneratedImageNet9:
        """The same: it needs no files."""
        return self


def cluster_scores(right: Tensor, classes: Tensor, tests: Tensor, cells: Tensor, *, least: int) -> dict[str, float]:
    """Measure `ImageNet9`; see there.

    Raises:
        ValueError: No cell has enough images.
    """
    right = right.double()
    plain = tests == 0
    means = [_mean_of_cells(right[plain], classes[plain], run, least) for run in cells[plain].unbind(dim=1)]
    return {
        "biased_accuracy": float(right[plain].mean()),
        "unbiased_accuracy": float(torch.stack(means).mean()),
        "imagenet_a_accuracy": float(right[~plain].mean()),
    }


def _mean_of_cells(right: Tensor, classes: Tensor, cluster: Tensor, least: int) -> Tensor:
    _, cell, counts = torch.stack([classes, cluster]).unique(dim=1, return_inverse=True, return_counts=True)
    shares = torch.zeros(len(counts), dtype=right.dtype, device=right.device).index_add_(0, cell, right) / counts
    if not (counts >= least).any():
        raise ValueError(f"no cell of class and cluster has {least} images; lower task.data.least")
    return shares[counts >= least].mean()


def _chosen(folder: Path, group: dict[str, int]) -> list[tuple[str, int]]:
    """The images of the nine classes in a folder of class folders, which may be a part of them: ImageNet-A has some."""
    images = class_folders(folder)
    if not group.keys() & set(images.classes):
        raise DataError(f"{folder} has none of the {len(group)} folders of the nine classes, as {min(group)}")
    warn_left_out(folder, "files and folders", images.left_out)
    return [(path, group[images.classes[i]]) for path, i in images.samples if images.classes[i] in group]
