"""The `Trainer` of Transformers, with an optimizer of your own: `optimizers=`.

The schedule is yours too then.
"""

from pathlib import Path

from problem import demo, images, labels
from torch.optim.lr_scheduler import ExponentialLR
from transformers import Trainer, TrainingArguments
from transformers_trainer import Classifier

from tangential import AdamP, find_invariances
from tangential.telemetry.transformers import TelemetryCallback


def train(folder: Path, epochs: int, resume: bool = False, **settings):
    quiet = dict(report_to=[], disable_tqdm=True, save_strategy="epoch")
    lengths = dict(num_train_epochs=epochs, per_device_train_batch_size=16)
    arguments = TrainingArguments(str(folder), **lengths, **quiet, **settings)
    model, telemetry = Classifier(), TelemetryCallback(every=2)
    found = find_invariances(model.net, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    mine = optimizer, ExponentialLR(optimizer, 0.99)
    data = [{"x": x, "labels": y} for x, y in zip(images, labels, strict=True)]
    trainer = Trainer(model, arguments, train_dataset=data, optimizers=mine, callbacks=[telemetry])
    trainer.train(resume_from_checkpoint=resume)
    return model.net, telemetry.telemetry


if __name__ == "__main__":
    demo(train)
