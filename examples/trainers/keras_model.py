"""Keras 3 on torch, with a `train_step` of its own: `compile(optimizer=)` takes Keras's optimizers only.

Keras layers take their mode from the call: the detector calls a Keras model with `training=True`, and in a `forward=`
of your own you do. It works on a copy, which Keras makes of registered classes only. Keras numbers the names of layers
anew for every model, so the groups go without names.
"""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
from keras import layers
from problem import demo, images, labels
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch

x = images.permute(0, 2, 3, 1).contiguous()


@keras.saving.register_keras_serializable()
class Classifier(keras.Sequential):
    def train_step(self, batch):
        loss = cross_entropy(self(batch[0], training=True), batch[1].long())
        loss.backward()
        self.adamp.step()
        self.adamp.zero_grad()
        return {"loss": loss}


def train(folder: Path, epochs: int, resume: bool = False):
    keras.utils.set_random_seed(0)
    first = [layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    rest = [layers.Conv2D(8, 3, use_bias=False), layers.GroupNormalization(2), layers.ReLU(), layers.Flatten()]
    model = Classifier([layers.Input((8, 8, 3)), *first, *rest, layers.Dense(5)])
    found = find_invariances(model, x[:8])
    model.adamp = AdamP(found.param_groups(weight_decay=1e-2, names=False), lr=1e-2)
    telemetry = watch(model.adamp, every=2, names=model.named_parameters())
    if resume:
        model.load_weights(folder / "model.weights.h5")
        for part, saved in zip((model.adamp, telemetry), torch.load(folder / "optimizer.pt"), strict=True):
            part.load_state_dict(saved)
    model.compile()
    model.fit(x, labels, batch_size=16, epochs=epochs - telemetry.step // 4, shuffle=False, verbose=0)
    model.save_weights(folder / "model.weights.h5")
    torch.save((model.adamp.state_dict(), telemetry.state_dict()), folder / "optimizer.pt")
    return model, telemetry


if __name__ == "__main__":
    demo(train)
