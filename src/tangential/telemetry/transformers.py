"""Telemetry as a callback of the Transformers `Trainer`."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tangential.telemetry.watch import Telemetry, watch

_KEY = "tangential.telemetry"
"""Where a checkpoint's `trainer_state.json` holds the state, among those of other callbacks.

Not as an `ExportableState` of Transformers: to restore one, the `Trainer` makes a new callback from plain values, and
the sinks would be lost.
"""


class TelemetryCallback(TrainerCallback):
    """Watch the optimizer of a `Trainer` while it trains.

    The checkpoint holds the telemetry's state.

    Args:
        **settings: Those of `tangential.watch`; the records go to `sinks`.

    Examples:
        >>> callback = TelemetryCallback(every=50, keep=1000)  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, **settings: Any) -> None:
        self.telemetry: Telemetry | None = None
        self._state: dict[str, Any] | None = None
        self._settings = settings

    def state_dict(self) -> dict[str, Any]:
        """State of the telemetry, as plain values."""
        return {} if self.telemetry is None else self.telemetry.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until training starts; that of the checkpoint does not count then."""
        self._state = state_dict

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start watching, from the checkpoint's step if there is one."""
        settings = {"names": kwargs["model"].named_parameters(), **self._settings}
        self.telemetry = watch(kwargs["optimizer"], **settings)
        kept: Any = state.stateful_callbacks or {}  # a list only until Transformers has read it
        saved = kept.get(_KEY, {})
        found = self._state or (saved["state"] if saved.get("global_step") == state.global_step else None)
        if found:
            self.telemetry.load_state_dict(found)
        elif state.global_step:  # a checkpoint from before there was a callback
            self.telemetry.go_on_from(state.global_step)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch of the records."""
        assert self.telemetry is not None, "the Trainer begins training before its first epoch"
        self.telemetry.epoch = int(state.epoch or 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the state where the checkpoint takes it from, if one is about to be written."""
        if control.should_save and state.stateful_callbacks is not None:
            state.stateful_callbacks[_KEY] = {"global_step": state.global_step, "state": self.state_dict()}  # type: ignore[index]

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """As after a step."""
        self.on_step_end(args, state, control, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop watching."""
        if self.telemetry is not None:
            self.telemetry.close()
