"""Lightning's `Trainer`.

The callback's state is in the checkpoint, and its quantiles go to the trainer's loggers.
"""

from pathlib import Path

import lightning
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances
from tangential.telemetry.lightning import TelemetryCallback


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()

    def training_step(self, batch, index):
        x, y = batch
        return cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        found = find_invariances(self.net, images[:8].to(self.device))
        return AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)


def train(folder: Path, epochs: int, resume: bool = False, **settings):
    telemetry = TelemetryCallback(every=2)
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[telemetry], default_root_dir=folder, **quiet, **settings)
    model = Classifier()
    trainer.fit(model, loader(), ckpt_path=folder / "last.ckpt" if resume else None)
    trainer.save_checkpoint(folder / "last.ckpt")
    return model.net, telemetry.telemetry


if __name__ == "__main__":
    demo(train)
