"""The callbacks in the real trainers: Lightning's and that of Transformers."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tangential import AdamP
from tangential.telemetry import JsonLines, read_records

pytestmark = pytest.mark.filterwarnings("ignore")  # what the trainers say of each other


def data():
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=4)


def lightning_module():
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 3)

        def training_step(self, batch, index):
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self):
            return AdamP(self.parameters(), lr=0.1, weight_decay=0.1)

    return Module()


def lightning_trainer(folder, callback, epochs, **settings):
    lightning = pytest.importorskip("lightning.pytorch")
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    settings = {"logger": False, "accelerator": "cpu", "default_root_dir": folder, **quiet, **settings}
    return lightning.Trainer(max_epochs=epochs, callbacks=[callback], **settings)


def test_lightning_is_watched_and_goes_on_after_a_checkpoint(tmp_path):
    pytest.importorskip("lightning.pytorch")
    from tangential.telemetry.lightning import TelemetryCallback

    callback = TelemetryCallback(every=2, sinks=[JsonLines(tmp_path)])
    trainer = lightning_trainer(tmp_path, callback, epochs=2)
    trainer.fit(lightning_module(), data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = read_records(tmp_path / "telemetry.jsonl")
    assert [(x["step"], x["epoch"]) for x in found] == [(2, 0), (4, 0), (6, 1), (8, 1)]
    assert all(list(x["weights"]) == ["net.weight"] and x["weights"]["net.weight"]["angle"] > 0 for x in found)
    assert not trainer.optimizers[0]._optimizer_step_pre_hooks

    again = TelemetryCallback(every=2, sinks=[JsonLines(tmp_path)])
    resumed = lightning_trainer(tmp_path, again, epochs=3)
    resumed.fit(lightning_module(), data(), ckpt_path=tmp_path / "last.ckpt")
    assert [x["step"] for x in read_records(tmp_path / "telemetry.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_lightning_keeps_the_state_of_telemetry_in_its_checkpoint(tmp_path):
    pytest.importorskip("lightning.pytorch")
    from tangential.telemetry.lightning import TelemetryCallback

    callback = TelemetryCallback(every=2)
    trainer = lightning_trainer(tmp_path, callback, epochs=1)
    trainer.fit(lightning_module(), data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)["callbacks"]
    assert saved == {"TelemetryCallback{'optimizer': 0}": callback.telemetry.state_dict()}
    again = TelemetryCallback(every=2)
    lightning_trainer(tmp_path, again, epochs=2).fit(lightning_module(), data(), ckpt_path=tmp_path / "last.ckpt")
    state = again.telemetry.state_dict()
    assert (state["step"], state["records"]) == (8, 4)


def test_lightning_loggers_get_the_quantiles(tmp_path):
    pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.loggers import CSVLogger

    from tangential.telemetry.lightning import TelemetryCallback

    logger = CSVLogger(tmp_path)
    lightning_trainer(tmp_path, TelemetryCallback(every=2), epochs=1, logger=logger).fit(lightning_module(), data())
    (written,) = tmp_path.rglob("metrics.csv")
    assert "telemetry/angle/median" in written.read_text()


def test_transformers_is_watched(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from tangential.telemetry.transformers import TelemetryCallback

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 3)

        def forward(self, x):
            return {"loss": self.net(x).square().mean()}

    callback = TelemetryCallback(every=2, sinks=[JsonLines(tmp_path)])
    settings = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=6,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    items = [{"x": x} for (x,) in data().dataset]
    transformers.Trainer(Net(), settings, train_dataset=items, callbacks=[callback]).train()
    found = read_records(tmp_path / "telemetry.jsonl")
    assert [(x["step"], x["epoch"]) for x in found] == [(2, 0), (4, 0), (6, 1)]
    assert all(list(x["weights"]) == ["net.weight"] and x["weights"]["net.weight"]["angle"] > 0 for x in found)


def test_transformers_keeps_the_state_of_telemetry_in_its_checkpoint(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from tangential.telemetry.transformers import TelemetryCallback

    callback = TelemetryCallback(every=2)
    arguments = transformers.TrainingArguments(str(tmp_path))
    net = torch.nn.Linear(4, 3)
    optimizer = AdamP(net.parameters(), lr=0.1)
    state, control = transformers.TrainerState(), transformers.TrainerControl()
    callback.on_train_begin(arguments, state, control, model=net, optimizer=optimizer)
    for _ in range(4):
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    callback.on_step_end(arguments, state, control)
    assert not state.stateful_callbacks, "nothing is about to be saved"
    state.global_step, control.should_save = 4, True
    callback.on_step_end(arguments, state, control)
    state.save_to_json(tmp_path / "state.json")

    loaded = transformers.TrainerState.load_from_json(tmp_path / "state.json")
    again = TelemetryCallback(every=2)
    again.on_train_begin(arguments, loaded, control, model=net, optimizer=optimizer)
    assert again.state_dict() == callback.state_dict() and again.state_dict()["records"] == 2

    loaded.global_step = 6  # saved in another way than through the callback: only the step is known
    later = TelemetryCallback(every=2)
    later.on_train_begin(arguments, loaded, control, model=net, optimizer=optimizer)
    assert (later.telemetry.step, later.state_dict()["records"]) == (6, 0)
    given = TelemetryCallback(every=2)
    given.load_state_dict({**callback.state_dict(), "step": 3})
    given.on_train_begin(arguments, loaded, control, model=net, optimizer=optimizer)
    assert given.telemetry.step == 3
