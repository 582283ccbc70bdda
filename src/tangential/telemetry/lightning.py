"""Telemetry as a Lightning callback."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tangential.telemetry.records import Record
from tangential.telemetry.sinks import scalars
from tangential.telemetry.watch import Telemetry, watch


class TelemetryCallback(Callback):
    """Watch an optimizer of a Lightning module while it is trained.

    Without sinks, the quantiles over weights go to the trainer's loggers.

    Args:
        optimizer: Which of the module's optimizers; give each its own callback.
        **settings: Those of `tangential.watch`.

    Example:
        >>> callback = TelemetryCallback(every=50)
        >>> trainer = Trainer(callbacks=[callback], max_epochs=1, logger=False, accelerator="cpu")
    """

    def __init__(self, optimizer: int = 0, **settings: Any) -> None:
        self.telemetry: Telemetry | None = None
        self._index = optimizer
        self._settings = settings

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, where the checkpoint left off if there is one."""

        def log(record: Record) -> None:
            for logger in trainer.loggers:
                logger.log_metrics(scalars(record), step=trainer.global_step)

        settings = {"names": pl_module.named_parameters(), "sinks": (log,), **self._settings}
        self.telemetry = watch(trainer.optimizers[self._index], **settings)
        if trainer.global_step:
            self.telemetry.go_on_from(trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell records the epoch."""
        assert self.telemetry is not None, "Lightning starts training before its first epoch"
        self.telemetry.epoch = trainer.current_epoch

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End, after an error too."""
        if self.telemetry is not None:
            self.telemetry.close()
