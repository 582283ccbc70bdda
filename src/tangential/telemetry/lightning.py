"""Telemetry as a Lightning callback."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tangential.telemetry.records import Record
from tangential.telemetry.sinks import scalars
from tangential.telemetry.watch import Telemetry, watch


class TelemetryCallback(Callback):
    """Watch an optimizer of a Lightning module while it is trained.

    Without sinks, the quantiles over weights go to the trainer's loggers. The checkpoint holds the telemetry's state.

    Args:
        optimizer: Which of the module's optimizers; give each its own callback.
        **settings: Those of `tangential.watch`.

    Examples:
        >>> callback = TelemetryCallback(every=50)
        >>> trainer = Trainer(callbacks=[callback], max_epochs=1, logger=False, accelerator="cpu")
    """

    def __init__(self, optimizer: int = 0, **settings: Any) -> None:
        self.telemetry: Telemetry | None = None
        self._state: dict[str, Any] | None = None
        self._index = optimizer
        self._settings = settings

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint, one for each optimizer."""
        return self._generate_state_key(optimizer=self._index)

    def state_dict(self) -> dict[str, Any]:
        """State of the telemetry, as plain values."""
        return {} if self.telemetry is None else self.telemetry.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until training starts."""
        self._state = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start watching, from the checkpoint's step if there is one."""

        def log(record: Record) -> None:
            for logger in trainer.loggers:
                logger.log_metrics(scalars(record), step=trainer.global_step)

        settings = {"names": pl_module.named_parameters(), "sinks": (log,), **self._settings}
        self.telemetry = watch(trainer.optimizers[self._index], **settings)
        if self._state:
            self.telemetry.load_state_dict(self._state)
        elif trainer.global_step:  # a checkpoint from before there was a callback
            self.telemetry.go_on_from(trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the epoch of the records."""
        assert self.telemetry is not None, "Lightning starts training before its first epoch"
        self.telemetry.epoch = trainer.current_epoch

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching, after an error too."""
        if self.telemetry is not None:
            self.telemetry.close()
