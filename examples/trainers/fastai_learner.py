"""fastai.

`OptimWrapper` holds the optimizer, and fastai's schedules write rate and momentum into the groups. `watch` takes the
optimizer inside, `learn.opt.opt`.
"""

from pathlib import Path

from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False):
    model = net()
    found = find_invariances(model, images[:8])
    groups = found.param_groups(weight_decay=1e-2)
    learn = Learner(
        DataLoaders(loader(), loader()),
        model,
        loss_func=cross_entropy,
        opt_func=lambda params, **settings: OptimWrapper(opt=AdamP(groups, **settings)),
        path=folder,
    )
    learn.create_opt()
    telemetry = watch(learn.opt.opt, every=2)
    if resume:
        learn.load("last")
        telemetry.go_on_from(2 * len(loader()))  # two epochs were trained
    with learn.no_logging():
        learn.fit(epochs - telemetry.step // len(loader()), lr=1e-2)
    learn.save("last")
    return learn.model, telemetry


if __name__ == "__main__":
    demo(train)
