"""The `Trainer` of Transformers, with `optimizer_cls_and_kwargs`.

`params` among the keyword arguments takes the place of the groups that the `Trainer` would make. With `lr` alone it
makes its own, and every matrix is under the paper's cosine test.
"""

from pathlib import Path

from problem import demo, images, labels, net
from torch import nn
from transformers import Trainer, TrainingArguments

from tangential import AdamP, find_invariances
from tangential.telemetry.transformers import TelemetryCallback


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x, labels):
        return {"loss": nn.functional.cross_entropy(self.net(x), labels)}


def train(folder: Path, epochs: int, resume: bool = False, **settings):
    quiet = dict(report_to=[], disable_tqdm=True, save_strategy="epoch", lr_scheduler_type="constant")
    lengths = dict(num_train_epochs=epochs, per_device_train_batch_size=16)
    arguments = TrainingArguments(str(folder), **lengths, **quiet, **settings)
    model, telemetry = Classifier(), TelemetryCallback(every=2)
    found = find_invariances(model.net, images[:8])
    how = AdamP, {"params": found.param_groups(weight_decay=1e-2), "lr": 1e-2}
    data = [{"x": x, "labels": y} for x, y in zip(images, labels, strict=True)]
    trainer = Trainer(model, arguments, train_dataset=data, optimizer_cls_and_kwargs=how, callbacks=[telemetry])
    trainer.train(resume_from_checkpoint=resume)
    return model.net, telemetry.telemetry


if __name__ == "__main__":
    demo(train)
