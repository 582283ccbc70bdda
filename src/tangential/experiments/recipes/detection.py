"""Object detection.

The paper trains on COCO: CenterNet for 140 epochs at a learning rate of 2.5e-4 with a cosine schedule, SSD for 110
epochs at 1e-4, divided by ten after 70 % and 90 % of the steps, both in batches of 64 with a decay of 1e-5 (from memory
of the appendix, unverified). We read that decay as a share per step, as the authors explained it for ImageNet:
`lr * weight_decay` here. The baseline is called Adam; we take AdamW. SSD's input size and CenterNet's neck are not
known: 300 pixels and the deformable neck are our choice.

COCO: https://cocodataset.org/#download, train2017, val2017 and the annotations, into `coco/` of the folder of data
sets. Expected, not measured, on one V100: some 30 hours a run of CenterNet, 40 of SSD.

BCCD, 364 microscope pictures of blood cells, stands in for it where there is no such machine. Its recipes are ours: the
rates were chosen on its validation pictures, see docs/detection.md.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tangential.experiments.data.boxes.coco import Coco
from tangential.experiments.data.boxes.transforms import SquareView, StretchedView
from tangential.experiments.data.boxes.voc import blood_cells
from tangential.experiments.nets.centernet import centernet, deformable_neck, plain_neck
from tangential.experiments.nets.ssd import ssd_resnet, ssd_vgg16
from tangential.experiments.recipes.recipe import PROJECTED, Recipe, adam_pair, paper_numbers, sgd_pair
from tangential.experiments.tasks.detection import AP, AP50, Detection
from tangential.experiments.training.schedules import cosine, multistep

IMAGENET = {"weights": "IMAGENET1K_V1"}
ADAM_PAIR = {"adamp": PROJECTED["adamp"]}


_table_3 = partial(paper_numbers, "v1, table 3")

_CENTERNET = Detection(
    data=Coco(),
    view=SquareView(size=512),
    net=partial(centernet, neck=partial(deformable_neck)),
    headline=AP,
    workers=4,
)
_SSD = Detection(data=Coco(), view=StretchedView(size=300), net=partial(ssd_vgg16), headline=AP, workers=4)

coco_centernet = Recipe(
    name="coco-centernet",
    about="CenterNet on ResNet-18 from scratch, COCO (table 3 of the paper)",
    task=_CENTERNET,
    optimizers=adam_pair(lr=2.5e-4, betas=(0.9, 0.999), weight_decay=0.04),
    baselines=ADAM_PAIR,
    schedule=partial(cosine, end=0.0),
    epochs=140,
    batch_size=64,
    seeds=1,
    paper=_table_3(adamw=26.57, adamp=27.11),
)
coco_centernet_imagenet = replace(
    coco_centernet,
    name="coco-centernet-imagenet",
    about="CenterNet on ResNet-18 from ImageNet weights, COCO (table 3)",
    task=replace(_CENTERNET, net=partial(centernet, neck=partial(deformable_neck), **IMAGENET)),
    paper=_table_3(adamw=28.29, adamp=29.05),
)
coco_ssd = Recipe(
    name="coco-ssd",
    about="SSD300 on VGG16-BN from scratch, COCO (table 3 of the paper)",
    task=_SSD,
    optimizers=adam_pair(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    baselines=ADAM_PAIR,
    schedule=partial(multistep, at=(0.7, 0.9), factor=0.1),
    epochs=110,
    batch_size=64,
    seeds=1,
    paper=_table_3(adamw=27.10, adamp=27.97),
)
coco_ssd_imagenet = replace(
    coco_ssd,
    name="coco-ssd-imagenet",
    about="SSD300 on VGG16-BN from ImageNet weights, COCO (table 3)",
    task=replace(_SSD, net=partial(ssd_vgg16, **IMAGENET)),
    paper=_table_3(adamw=28.39, adamp=28.67),
)

bccd_centernet = Recipe(
    name="bccd-centernet",
    about="a narrow CenterNet from scratch on 364 pictures of blood cells",
    task=Detection(
        data=blood_cells(),
        view=SquareView(size=160, least_scale=0.6, most_scale=1.1, jitter=0.2, keep_size=False),
        net=partial(centernet, width=16, blocks=1, neck=partial(plain_neck)),
        headline=AP50,
    ),
    optimizers={
        **sgd_pair(lr=0.02, momentum=0.9, weight_decay=1e-4),
        **adam_pair(lr=2e-3, betas=(0.9, 0.999), weight_decay=1e-2),
    },
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.01),
    epochs=30,
    batch_size=8,
    seeds=3,
)
bccd_ssd = replace(
    bccd_centernet,
    name="bccd-ssd",
    about="an SSD on a narrow ResNet from scratch, on pictures of blood cells",
    task=Detection(
        data=blood_cells(),
        view=StretchedView(size=160, zoom_out=0.0),
        net=partial(ssd_resnet, width=16, blocks=1),
        headline=AP50,
    ),
)

DETECTION = (coco_centernet, coco_centernet_imagenet, coco_ssd, coco_ssd_imagenet, bccd_centernet, bccd_ssd)
