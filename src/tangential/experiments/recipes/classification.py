"""Image classification: the demo, the paper's ImageNet table, CIFAR-10, and two small comparisons for a CPU thread.

ImageNet as in the paper: batch 256, random parts of 224 pixels and mirroring, the
centre of 224 in testing, a cosine schedule, 100 epochs for the ResNets and 150 for MobileNetV2 and CutMix.

Weight decay: the paper's "1e-4" is what a weight loses in each step at the full learning rate. In torch's notation
AdamW and AdamP multiply by `1 - lr * weight_decay`, so that takes `weight_decay=0.1` at `lr=1e-3`. SGD adds
`weight_decay * w` to the gradient, and momentum 0.9 makes ten of each: `weight_decay=1e-4` at `lr=0.1` comes to the
same 1e-4, and SGDP, which multiplies by `1 - lr * weight_decay / (1 - momentum)`, loses exactly that. A weight that is
projected decays by a tenth of it (`wd_ratio`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch.optim import Optimizer

from tangential.experiments.data.images.folders import Cifar10Jpeg, Folder
from tangential.experiments.data.images.mnist_cifar import Cifar10, Mnist
from tangential.experiments.nets.by_name import by_name, cifar_resnet18
from tangential.experiments.nets.resnet import resnet
from tangential.experiments.recipes.recipe import PROJECTED, PaperNumber, Recipe, adam_pair, paper_numbers, sgd_pair
from tangential.experiments.tasks.classification import Classification
from tangential.experiments.training.schedules import cosine

PAIRS = {
    **sgd_pair(lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
    **adam_pair(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.1),
}
"""The paper's optimizers on ImageNet."""


def without_decay(recipe: Recipe, *, about: str, paper: Mapping[str, PaperNumber] | None = None) -> Recipe:
    """The same recipe with every weight decay at zero; its name ends in `-nowd`."""
    optimizers = {name: _undecayed(make) for name, make in recipe.optimizers.items()}
    return replace(recipe, name=f"{recipe.name}-nowd", about=about, optimizers=optimizers, paper=paper or {})


def _undecayed(make: partial[Optimizer]) -> partial[Optimizer]:
    return partial(make.func, *make.args, **{**make.keywords, "weight_decay": 0.0})


def _table(number: int, sgd: float, sgdp: float, adamw: float, adamp: float) -> dict[str, PaperNumber]:
    """A row of the paper's first version; what it calls Adam is most likely AdamW, as its second version says."""
    return paper_numbers(f"v1, table {number}", sgd=sgd, sgdp=sgdp, adamw=adamw, adamp=adamp)


digits = Recipe(
    name="digits",
    about="a BatchNorm conv net on scikit-learn's 1,797 digits, in about a minute",
    task=Classification(),
    optimizers={
        **sgd_pair(lr=0.1, momentum=0.9, weight_decay=1e-4),
        **adam_pair(lr=1e-2, betas=(0.9, 0.999), weight_decay=1e-2),
    },
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.01),
    epochs=20,
    batch_size=32,
)
"""The demo: a minute on data that ship with scikit-learn."""


imagenet_resnet18 = Recipe(
    name="imagenet-resnet18",
    about="ResNet-18 on ImageNet, the paper's table 1",
    task=Classification(data=Folder(), net=partial(by_name, name="resnet18"), workers=8),
    optimizers=PAIRS,
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.0),
    epochs=100,
    batch_size=256,
    seeds=3,
    paper=_table(1, 70.28, 70.73, 70.41, 70.81),
)

imagenet_resnet50 = replace(
    imagenet_resnet18,
    name="imagenet-resnet50",
    about="ResNet-50 on ImageNet, the paper's table 1",
    task=Classification(data=Folder(), net=partial(by_name, name="resnet50"), workers=8),
    paper=_table(1, 76.64, 76.71, 76.65, 76.94),
)

imagenet_resnet50_cutmix = replace(
    imagenet_resnet50,
    name="imagenet-resnet50-cutmix",
    about="ResNet-50 with CutMix on ImageNet, the paper's table 1",
    task=Classification(data=Folder(), net=partial(by_name, name="resnet50"), cutmix=1.0, workers=8),
    epochs=150,
    paper=_table(1, 77.61, 77.72, 78.00, 78.31),
)

# Batch 1024 and label smoothing are the paper's. It searched learning rate and decay for each optimizer; known is only
# AdamW's 2e-3, with a decay that begins with 5e: 5e-2 would be 1e-4 per step again. SGD's rate is scaled with the
# batch, as is usual, and its decay so that a step still loses 1e-4.
imagenet_mobilenetv2 = replace(
    imagenet_resnet18,
    name="imagenet-mobilenetv2",
    about="MobileNetV2 with label smoothing on ImageNet, the paper's table 1",
    task=Classification(data=Folder(), net=partial(by_name, name="mobilenet_v2"), label_smoothing=0.1, workers=8),
    optimizers={
        **sgd_pair(lr=0.4, momentum=0.9, weight_decay=2.5e-5, nesterov=True),
        **adam_pair(lr=2e-3, betas=(0.9, 0.999), weight_decay=5e-2),
    },
    epochs=150,
    batch_size=1024,
    paper=_table(1, 71.61, 72.18, 72.12, 72.57),
)

cifar10_resnet18 = Recipe(
    name="cifar10-resnet18",
    about="ResNet-18 for small images on CIFAR-10; not in the paper",
    task=Classification(data=Cifar10(padding=4, flip=True), net=partial(cifar_resnet18)),
    optimizers=PAIRS,
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.0),
    epochs=200,
    batch_size=128,
    seeds=3,
)

mnist_small = Recipe(
    name="mnist-small",
    about="a ResNet-8 on 20,000 digits of MNIST, a minute a run",
    task=Classification(data=Mnist(limit=20_000), net=partial(resnet, depth=8, width=8)),
    optimizers=PAIRS,
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.0),
    epochs=4,
    batch_size=128,
    seeds=3,
)

cifar10_small = replace(
    mnist_small,
    name="cifar10-small",
    about="a ResNet-8 on 20,000 lossy JPEGs of CIFAR-10, two minutes a run",
    task=Classification(data=Cifar10Jpeg(limit=20_000, padding=4, flip=True), net=partial(resnet, depth=8, width=8)),
    epochs=5,
)

CLASSIFICATION = (
    digits,
    imagenet_resnet18,
    without_decay(
        imagenet_resnet18,
        about="ResNet-18 on ImageNet without weight decay, the paper's table 2",
        paper=_table(2, 67.94, 70.21, 68.52, 70.50),
    ),
    imagenet_resnet50,
    without_decay(imagenet_resnet50, about="ResNet-50 on ImageNet without weight decay"),
    imagenet_resnet50_cutmix,
    without_decay(imagenet_resnet50_cutmix, about="ResNet-50 with CutMix on ImageNet without weight decay"),
    imagenet_mobilenetv2,
    without_decay(imagenet_mobilenetv2, about="MobileNetV2 on ImageNet without weight decay"),
    cifar10_resnet18,
    without_decay(cifar10_resnet18, about="ResNet-18 on CIFAR-10 without weight decay"),
    mnist_small,
    without_decay(mnist_small, about="the same digits of MNIST without weight decay"),
    cifar10_small,
    without_decay(cifar10_small, about="the same JPEGs of CIFAR-10 without weight decay"),
)
