"""Telemetry as a callback of the Transformers `Trainer`."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tangential.telemetry.watch import Telemetry, watch


class TelemetryCallback(TrainerCallback):
    """Watch the optimizer of a `Trainer` while it trains.

    Args:
        **settings: Those of `tangential.watch`; the records go to `sinks`.

    Examples:
        >>> callback = TelemetryCallback(every=50, keep=1000)  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, **settings: Any) -> None:
        self.telemetry: Telemetry | None = None
        self._settings = settings

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start watching, from the checkpoint's step if there is one."""
        settings = {"names": kwargs["model"].named_parameters(), **self._settings}
        self.telemetry = watch(kwargs["optimizer"], **settings)
        if state.global_step:
            self.telemetry.go_on_from(state.global_step)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch of the records."""
        assert self.telemetry is not None, "the Trainer begins training before its first epoch"
        self.telemetry.epoch = int(state.epoch or 0)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop watching."""
        if self.telemetry is not None:
            self.telemetry.close()
