"""Clusters of images by their texture: k-means on the Gram matrices of an early layer of VGG-16."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from tangential.experiments.data.images.folders import MEAN, STD
from tangential.experiments.data.images.in_memory import Batch

_LAYERS = 15  # up to the third convolution of the third group, of 31


def texture_net(weights: Path | None) -> nn.Module:
    """Make the first layers of VGG-16, for normalised images.

    Args:
        weights: torchvision's file of VGG-16 trained on ImageNet; None for random weights.

    Returns:
        A net in evaluation mode to 256 channels of a quarter of the images' height and width.

    Raises:
        ValueError: The file is no such file.
    """
    from torchvision.models.vgg import cfgs, make_layers  # costs a second to import, and most tasks do without

    net = make_layers(cfgs["D"])[:_LAYERS]
    if weights is not None:
        try:
            state = torch.load(weights, weights_only=True, map_location="cpu")
            net.load_state_dict({name: state[f"features.{name}"] for name in net.state_dict()})
        except Exception as error:  # a cut or foreign file fails in as many ways as pickle, zip and torch have
            raise ValueError(f"{weights} is not torchvision's file of VGG-16; get it again") from error
    return net.eval()


@torch.no_grad()
def grams(net: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Gram matrices of the channels of a net, one per image, as vectors of length 1.

    Args:
        net: What `texture_net` makes.
        batches: Images from 0 to 1, `(batch, 3, height, width)`, and anything.

    Returns:
        `(count, channels * channels)`.
    """
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (MEAN, STD))
    rows = []
    for images, *_ in batches:
        features = net((images - mean) / std).flatten(2)
        rows.append(nn.functional.normalize((features @ features.transpose(1, 2)).flatten(1), dim=1))
    return torch.cat(rows)


def clusters(rows: Tensor, *, count: int, runs: int) -> Tensor:
    """Cluster vectors `(images, size)` by mini-batch k-means, several times from different starts.

    Returns:
        Which of `count` clusters each image is in, `(images, runs)`.

    Raises:
        ValueError: Less images than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans  # costs a second to import, and only this needs it

    if len(rows) < count:
        raise ValueError(f"{len(rows)} images cannot make {count} clusters")
    found = []
    for seed in range(runs):
        with catch_warnings():
            simplefilter("ignore")  # of memory leaks on Windows, of fewer distinct points than clusters
            means = MiniBatchKMeans(count, random_state=seed)
            found.append(torch.from_numpy(means.fit_predict(rows.numpy())).long())
    return torch.stack(found, dim=1)
