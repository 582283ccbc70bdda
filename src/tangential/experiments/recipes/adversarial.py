"""Adversarial training on CIFAR-10: the paper's two attacks, and a small recipe for a CPU thread.

The paper names a Wide-ResNet, ten attack steps, and the code pytorch-adversarial-training, whose settings of that time
these are: Wide-ResNet-34-10 with pooled shortcuts (whether the paper's was 34-10 or 16-10 is open), images from 0 to 1
not normalised, shifted by up to 4 pixels and mirrored; batch 128, 200 epochs, learning rate 1e-2 divided by 10 at 50 %
and 75 %, weight decay 2e-4; training attacks from a random start, test attacks from the image.

Two things are not as there. Its L2 attack takes *sign* steps of 2/255 within the L2 ball; ours goes along the
gradient, and its ten steps have to be longer to reach the edge of the ball (20/255 each, two and a half radii in all).
Literally: `task.attack.norm=l2-sign task.attack.step=0.00784`, and the same for `task.evaluation`. And its optimizer is
torch's Adam, whose decay is coupled; the paper's second version, from memory, names AdamW beside the same numbers, so
AdamW it is, where `2e-4` means a loss of `lr * weight_decay` = 2e-6 per step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tangential.experiments.data.images.folders import Cifar10Jpeg
from tangential.experiments.data.images.mnist_cifar import Cifar10
from tangential.experiments.nets.wide_resnet import wide_resnet
from tangential.experiments.recipes.recipe import Recipe, adam_pair, paper_numbers
from tangential.experiments.tasks.adversarial import Adversarial
from tangential.experiments.tasks.attacks import Attack
from tangential.experiments.training.schedules import cosine, multistep

LINF = Attack(norm="linf", radius=4 / 255, step=2 / 255, steps=10)
L2 = Attack(norm="l2", radius=80 / 255, step=20 / 255, steps=10)

_table_4 = partial(paper_numbers, "v1, table 4, attacked")

cifar10_linf = Recipe(
    name="cifar10-adversarial-linf",
    about="WRN-34-10 against PGD-10, L-inf 4/255, on CIFAR-10",
    task=Adversarial(
        data=Cifar10(padding=4, flip=True),
        net=partial(wide_resnet, depth=34, width=10, shortcut="pool"),
        attack=LINF,
        evaluation=replace(LINF, random_start=False),
    ),
    optimizers=adam_pair(lr=1e-2, betas=(0.9, 0.999), weight_decay=2e-4),
    baselines={"adamp": "adamw"},
    schedule=partial(multistep, at=(0.5, 0.75), factor=0.1),
    epochs=200,
    batch_size=128,
    seeds=3,
    paper=_table_4(adamw=56.58, adamp=66.28),
)

cifar10_l2 = replace(
    cifar10_linf,
    name="cifar10-adversarial-l2",
    about="WRN-34-10 against PGD-10, L2 80/255, on CIFAR-10",
    task=Adversarial(
        data=Cifar10(padding=4, flip=True),
        net=partial(wide_resnet, depth=34, width=10, shortcut="pool"),
        attack=L2,
        evaluation=replace(L2, random_start=False),
    ),
    paper=_table_4(adamw=70.33, adamp=83.59),
)

# The Adam pair has the settings of the other small recipes: a loss of 1e-4 per step.
cifar10_small = replace(
    cifar10_linf,
    name="cifar10-adversarial-small",
    about="WRN-10-1 against PGD-3, L-inf 4/255, on lossy CIFAR-10 JPEGs",
    task=Adversarial(
        data=Cifar10Jpeg(limit=6000, test_limit=1000, padding=4, flip=True),
        net=partial(wide_resnet, depth=10, width=1, shortcut="pool"),
        attack=replace(LINF, steps=3),
        evaluation=replace(LINF, random_start=False),
    ),
    optimizers=adam_pair(lr=1e-2, betas=(0.9, 0.999), weight_decay=1e-2),
    schedule=partial(cosine, end=0.0),
    epochs=3,
    paper={},
)

ADVERSARIAL = (cifar10_linf, cifar10_l2, cifar10_small)
