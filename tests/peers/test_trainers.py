"""Contracts of Lightning, Transformers and Accelerate with an optimizer: train, save, and resume bit for bit."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from support.optimizer_makers import MAKERS, every
from tangential import find_invariances

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the trainers' own advice on workers, loggers and devices
]

DOES_NOT_APPLY = {
    "Accelerate FSDP2, Lightning FSDP and model parallel": "sharded parameters are refused in words",
    "DeepSpeed": "stages 1 and 2 exchange parameters for flat vectors, which is refused in words",
    "Transformers' optimizer names": "`optim=` takes names of its own table; `optimizers=` takes ours",
}
"""Contracts that cannot hold, and why."""


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.GroupNorm(4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def data():
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(16, 3, 6, 6, generator=generator), torch.arange(16) % 2)


def groups(model):
    return find_invariances(model, data()[0][0][None].repeat(4, 1, 1, 1)).param_groups(model, weight_decay=0.01)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@every
def test_lightning_resumes_bit_for_bit(name, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.groups = groups(self.net)

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = MAKERS[name](self.groups)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]

    def fit(epochs, checkpoint=None):
        quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", devices=1)
        trainer = lightning.Trainer(max_epochs=epochs, default_root_dir=tmp_path, gradient_clip_val=1.0, **quiet)
        module = Module()
        trainer.fit(module, DataLoader(data(), 4), ckpt_path=checkpoint)
        return trainer, module.net

    _, whole = fit(4)
    trainer, half = fit(2)
    assert not equal(whole, half)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = fit(4, tmp_path / "half.ckpt")
    assert equal(whole, resumed)


@every
def test_transformers_resume_bit_for_bit(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, labels):
            return {"loss": nn.functional.cross_entropy(self.net(x), labels)}

    def fit(steps, folder, resume=None):
        model = Model()
        optimizer = MAKERS[name](groups(model.net))
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / folder),
            max_steps=steps,
            save_steps=4,
            per_device_train_batch_size=4,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            seed=0,
        )
        rows = [{"x": x, "labels": y} for x, y in data()]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.9**t)
        trainer = transformers.Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, schedule))
        trainer.train(resume_from_checkpoint=resume)
        return model.net

    whole = fit(8, "whole")
    fit(4, "half")
    assert equal(whole, fit(8, "half", str(tmp_path / "half" / "checkpoint-4")))


@every
def test_accelerate_resumes_bit_for_bit(name, tmp_path):
    accelerate = pytest.importorskip("accelerate")

    def fit(accelerator, model, optimizer, loader, steps):
        for _ in range(steps):
            for x, y in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(nn.functional.cross_entropy(model(x), y))
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()

    def prepared():
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = net()
        optimizer = MAKERS[name](groups(model))
        return accelerator, *accelerator.prepare(model, optimizer, DataLoader(data(), 4))

    accelerator, model, optimizer, loader = prepared()
    fit(accelerator, model, optimizer, loader, 2)
    accelerator.save_state(str(tmp_path))
    fit(accelerator, model, optimizer, loader, 2)
    again, other, second, loader = prepared()
    again.load_state(str(tmp_path))
    fit(again, other, second, loader, 2)
    assert equal(model, other)
