"""`watch`: norms, effective steps and angles of any torch optimizer, through its step hooks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from tangential.blocks import Blocks
from tangential.telemetry.measuring import Measurement
from tangential.telemetry.metrics import Detail
from tangential.telemetry.records import Record, Recorder
from tangential.telemetry.watch_list import Names, Roster, Where
from tangential.telemetry.weight_norms import Movement

Sink = Callable[[Record], None]

LIMIT = 1 << 25
"""Elements copied per record, if need be: 128 MiB in float32, all of a ResNet-50."""


class Telemetry:
    """What `watch` gives: a context manager that measures until it is left.

    Attributes:
        latest: The last record, or None before the first.
        records: The last records, oldest first; how many is `keep` of `watch`.
        step: Steps the optimizer has taken under watch, those it took before a resumed run included.
        epoch: What records say of the epoch; set it yourself.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        roster: Roster,
        every: int | None,
        detail: Detail,
        limit: int,
        keep: int,
        sinks: tuple[Sink, ...],
        measures: bool,
        movement: bool,
    ) -> None:
        self.step = 0
        self.epoch: int | None = None
        self.records: deque[Record] = deque(maxlen=keep)
        self.sinks = sinks
        self._every = every
        self._limit = limit
        self._roster = roster
        self._recorder = Recorder(optimizer, detail)
        self._missed = False
        self._current: Measurement | None = None
        self._movement = Movement() if movement else None
        self._moving: list[Tensor] = []
        self._hooks = []
        if not measures:
            return
        eagerly: Any = torch.compiler.disable  # a compiled step calls the hooks between its graphs
        self._hooks.append(optimizer.register_step_pre_hook(eagerly(self._before)))
        self._hooks.append(optimizer.register_step_post_hook(eagerly(self._after)))

    @property
    def latest(self) -> Record | None:
        """The last record."""
        return self.records[-1] if self.records else None

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop measuring; the records stay."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._current = [], None

    def take_movement(self) -> Tensor:
        """Sum of the effective steps of all watched weights over the steps since the last call, 0-d, on their device.

        Each weight counts as one vector, whatever its blocks. Divided by the number of weights, after every step, this
        is the effective step size of the paper's curves. Zero if no step was taken, as when a `GradScaler` skips one.

        Raises:
            RuntimeError: `watch` was called without `movement=True`.
        """
        if self._movement is None:
            raise RuntimeError("take_movement: nothing was kept; pass movement=True to watch")
        total = self._movement.take()
        return torch.zeros(()) if total is None else total

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting, as plain values."""
        counts = {"step": self.step, "epoch": self.epoch, "records": self._recorder.count, "missed": self._missed}
        return {**counts, "flips": self._recorder.flips()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; sinks that can, such as `JsonLines`, drop what lies beyond it."""
        self.epoch = state["epoch"]
        self.go_on_from(state["step"])
        self._recorder.count, self._missed = state["records"], state["missed"]
        self._recorder.load_flips(state["flips"])

    def go_on_from(self, step: int) -> None:
        """Count on from the step of a resumed run, where only that is known."""
        self.step = step
        for sink in self.sinks:
            rewind = getattr(sink, "rewind", None)
            if rewind is not None:
                rewind(step)

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._current = None
        if self._movement is not None:
            self._moving = [each.weight for each in self._roster.watched()]
            self._movement.before(self._moving)
        if self._every is None or (not self._missed and (self.step + 1) % self._every):
            return None
        now = Measurement(optimizer, self._roster.watched(), limit=self._limit, turn=self._recorder.count)
        self._current = now
        return now.with_closure(args, kwargs)

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step += 1
        if self._movement is not None:
            self._movement.after(self._moving)
        if self._current is None:
            return
        record = self._recorder.record(self._current.parts(), step=self.step, epoch=self.epoch)
        self._current = None
        self._missed = record is None
        if record is not None:
            self.records.append(record)
            for sink in self.sinks:
                sink(record)


def watch(
    optimizer: Optimizer,
    *,
    every: int | None = 10,
    names: Names | None = None,
    invariances: Mapping[str, Blocks | None] | None = None,
    where: Where | None = None,
    detail: Detail = "quantiles",
    limit: int = LIMIT,
    keep: int = 10,
    sinks: Iterable[Sink] = (),
    all_ranks: bool = False,
    movement: bool = False,
) -> Telemetry:
    """Measure what an optimizer does to its weights: norms, effective steps, angles, radial parts.

    It works through step hooks on every `torch.optim.Optimizer`. Steps in between cost nothing; on those that are
    recorded the device is waited for once. SGDP and AdamP are measured without a copy of the model.

    Args:
        optimizer: Whose steps. A wrapper around one, such as Accelerate's, is looked into.
        every: Record each so many steps; None for no records. A step that a `GradScaler` skipped is made up for by the
            next.
        names: Names of the parameters, usually `model.named_parameters()`; without it they are `group.index`.
        invariances: Which blocks of which weights are scale-invariant, as `find_invariances` gives it. Without it, the
            `blocks` of a parameter group count, and else the output channels of weights with two dimensions or more.
        where: Says of a name and a parameter whether it is watched. By default weights with two dimensions or more are,
            and those known to be invariant.
        detail: "summary" keeps the quantiles over weights, "weights" adds one entry per weight, "quantiles" the spread
            over the blocks of each, "blocks" every block.
        limit: How many elements may be copied for a record, where the optimizer is not ours or the weights are in half
            precision. Beyond it, blocks are sampled evenly, and weights left out in turn.
        keep: How many records stay in memory.
        sinks: Each is called with every record: `JsonLines`, `TensorBoard`, `WandB`, `MLflow`, or any function.
        all_ranks: Measure in every process of a distributed run, instead of the first alone.
        movement: Measure the effective step of every weight as a whole at every step, for `Telemetry.take_movement`.
            This keeps one copy of the watched weights.

    Returns:
        The telemetry; leaving its context, or `close`, ends it.

    Raises:
        TypeError: Not an optimizer, or another argument of the wrong type.
        ValueError: A sharded parameter, names or blocks that do not fit, or a number out of range.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        >>> with watch(optimizer, every=1, names=model.named_parameters()) as telemetry:
        ...     model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        ...     optimizer.step()
        >>> sorted(telemetry.latest["weights"]), telemetry.latest["weights"]["0.weight"]["blocks"]
        (['0.weight'], 8)
    """
    inner = _hooked(optimizer)
    counts = (("every", 1 if every is None else every, 1), ("limit", limit, 0), ("keep", keep, 1))
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"watch: {name}={value!r} must be an integer")
        if value < least:
            raise ValueError(f"watch: {name}={value} must be at least {least}")
    if detail not in get_args(Detail):
        raise ValueError(f"watch: detail={detail!r} must be one of {', '.join(get_args(Detail))}")
    return Telemetry(
        inner,
        roster=Roster(inner, names, invariances, where),
        every=every,
        detail=detail,
        limit=limit,
        keep=keep,
        sinks=tuple(sinks),
        measures=all_ranks or _is_first(),
        movement=movement,
    )


def _hooked(optimizer: Any) -> Optimizer:
    """The optimizer whose step calls hooks; wrappers that merely look like one pass the step on to it."""
    while not hasattr(optimizer, "_optimizer_step_pre_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"watch: a {type(optimizer).__name__} came; pass the torch.optim.Optimizer whose step is called"
        )
    return optimizer


def _is_first() -> bool:
    """Whether this is the only process, or the one with rank 0."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
