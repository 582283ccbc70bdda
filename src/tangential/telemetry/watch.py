"""`watch`: norms, effective steps and angles of any torch optimizer, through its step hooks.

The pre-hook runs before all others and the post-hook after all others, so that what is between them is all that a call
of `step` does to the weights. A subclass whose `step` calls its parent's has hooks called for both: the outer call is
the step.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, TracebackType
from typing import Any, get_args

import torch
from torch.optim import Optimizer

from tangential.backends.dtensor import is_dtensor
from tangential.blocks import Blocks
from tangential.telemetry.measuring import Measurement
from tangential.telemetry.metrics import Detail
from tangential.telemetry.names import Names
from tangential.telemetry.readable import are_readable
from tangential.telemetry.records import Record, Recorder
from tangential.telemetry.watch_list import WatchList, Where

Sink = Callable[[Any], None]
"""Called with every record; a `Record`, for those who annotate."""

LIMIT = 1 << 25
"""Elements copied per record: 128 MiB in float32, all of a ResNet-50."""


class Telemetry:
    """What `watch` gives: a context manager that measures until it is left.

    Attributes:
        latest: The last record, or None before the first.
        records: The last records, oldest first; how many is `keep` of `watch`.
        step: Steps the optimizer has taken under watch, those it took before a resumed run included.
        epoch: The epoch in the records; set it yourself.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        watch_list: WatchList,
        every: int,
        detail: Detail,
        limit: int,
        keep: int,
        sinks: tuple[Sink, ...],
        measures: bool,
    ) -> None:
        self.step = 0
        self.epoch: int | None = None
        self.records: deque[Record] = deque(maxlen=keep)
        self.sinks = sinks
        self._every = every
        self._watched = type(optimizer).__name__
        self._limit = limit
        self._watch_list = watch_list
        self._recorder = Recorder(optimizer, detail)
        self._missed = False
        self._outer: FrameType | None = None
        self._inner_steps = 0
        self._current: Measurement | None = None
        self._hooks = []
        self._keeps = measures
        if not (measures or _is_distributed()):
            return
        before, after = _hook(self._before), _hook(self._after)
        self._hooks += [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
        pre_hooks: Any = optimizer._optimizer_step_pre_hooks  # an OrderedDict
        pre_hooks.move_to_end(self._hooks[0].id, last=False)

    def __repr__(self) -> str:
        state = "every step" if self._every == 1 else f"every {self._every} steps"
        state = state if self._hooks else "closed"
        return f"<Telemetry of {self._watched}: {state}, {self.step} taken, {self._recorder.count} recorded>"

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
        self._hooks, self._current, self._outer = [], None, None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting, as plain values."""
        counts = {"step": self.step, "epoch": self.epoch, "records": self._recorder.count, "missed": self._missed}
        return {**counts, "flips": self._recorder.flips()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; sinks that can, such as `JsonLines`, drop what lies beyond it.

        Raises:
            ValueError: The state is something else's; nothing is loaded then.
        """
        try:
            step, epoch, count, missed = (state[name] for name in ("step", "epoch", "records", "missed"))
            flips = {str(name): (bool(last), int(number)) for name, (last, number) in state["flips"].items()}
            step, count, epoch = int(step), int(count), None if epoch is None else int(epoch)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("telemetry: this state was not given by a Telemetry's state_dict") from error
        self.epoch, self._missed, self._recorder.count = epoch, bool(missed), count
        self._recorder.load_flips(flips)
        self.go_on_from(step)

    def go_on_from(self, step: int) -> None:
        """Count on from the step of a resumed run, where only that is known."""
        self.step = step
        for sink in self.sinks:
            rewind = getattr(sink, "rewind", None)
            if rewind is not None:
                rewind(step)

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._outer is not None and _is_running(self._outer):
            self._inner_steps += 1
            return None
        # a step that raised an error left its frame here
        self._outer, self._inner_steps, self._current = _step_frame(), 0, None
        post_hooks: Any = optimizer._optimizer_step_post_hooks
        if self._hooks and self._hooks[1].id in post_hooks:
            post_hooks.move_to_end(self._hooks[1].id)
        if not self._missed and (self.step + 1) % self._every:
            return None
        if not (self._keeps or _has_parts(optimizer)):  # whose sums the process that keeps records waits for
            return None
        weights = self._watch_list.weights()
        if not are_readable([weight.tensor for weight in weights]):
            self._missed = True
            return None
        others = any(not hasattr(hook, "is_telemetry") for hook in optimizer._optimizer_step_pre_hooks.values())
        turn = self._recorder.count
        self._current = Measurement(optimizer, weights, limit=self._limit, turn=turn, other_hooks=others)
        return self._current.with_closure(args, kwargs)

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._inner_steps:
            self._inner_steps -= 1
            return
        self._outer = None
        self.step += 1
        if self._current is None:
            return
        record = self._recorder.record(self._current.sums(), step=self.step, epoch=self.epoch)
        self._current = None
        self._missed = record is None
        if record is not None and self._keeps:
            self.records.append(record)
            for sink in self.sinks:
                sink(record)


def _hook(method: Callable[..., Any]) -> Any:
    """A step hook that is called between the graphs of a compiled step, and recognised as one that changes nothing."""
    hook: Any = torch.compiler.disable(method)
    hook.is_telemetry = True
    return hook


def _step_frame() -> FrameType | None:
    """The frame in which torch calls the hooks and then the step, if one is there."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "torch.optim.optimizer":
        frame = frame.f_back
    return frame


def _is_running(wanted: FrameType) -> bool:
    """Whether this call was made from within that frame."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not wanted:
        frame = frame.f_back
    return frame is not None


def watch(
    optimizer: Optimizer,
    *,
    every: int = 10,
    names: Names | None = None,
    invariances: Mapping[str, Blocks | None] | None = None,
    where: Where | None = None,
    detail: Detail = "quantiles",
    limit: int = LIMIT,
    keep: int = 10,
    sinks: Iterable[Sink] = (),
    all_ranks: bool = False,
) -> Telemetry:
    """Measure what an optimizer does to its weights: norms, effective steps, angles, radial parts.

    It works through step hooks on every `torch.optim.Optimizer`. Steps in between cost nothing; those that are recorded
    wait for the device once. Weights are copied before such a step and compared with what is stored after it.

    Args:
        optimizer: Whose steps. A wrapper around one, such as Accelerate's, is looked into.
        every: Record every N-th step. A step that a `GradScaler` skipped is made up for by the next.
        names: Names of the parameters, usually `model.named_parameters()`; without it they are `group.index`.
        invariances: Which blocks of which weights are scale-invariant, as `find_invariances` gives it; prefixes that
            wrappers add to names may differ. Without it, the `blocks` of a parameter group count, and else the output
            channels of weights with two dimensions or more.
        where: From a name and a parameter to whether it is watched. By default those with two dimensions or more are,
            and those known to be invariant.
        detail: "summary" keeps the quantiles over weights, "weights" adds one entry per weight, "quantiles" the spread
            over the blocks of each, "blocks" every block.
        limit: How many elements may be copied for a record. Beyond it, steps of SGDP and AdamP are predicted and the
            prediction is checked; of other optimizers blocks are sampled evenly, and weights left out in turn.
        keep: How many records stay in memory.
        sinks: Each is called with every record: `JsonLines`, `TensorBoard`, `WandB`, `MLflow`, or any function.
        all_ranks: Keep records in every process of a distributed run, instead of the first alone. Weights that are
            spread over ranks (FSDP2, tensor parallelism) are measured by all, whose sums are added up in one message a
            record and mesh; so all have to watch alike.

    Returns:
        The telemetry; leaving its context, or `close`, ends it.

    Raises:
        TypeError: Not an optimizer, or another argument of the wrong type.
        ValueError: A flat parameter (FSDP1, DeepSpeed), names that no parameter has, blocks that do not fit, or a
            number out of range.

    Examples:
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
    for name, value, least in (("every", every, 1), ("limit", limit, 0), ("keep", keep, 1)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"watch: {name}={value!r} must be an integer")
        if value < least:
            raise ValueError(f"watch: {name}={value} must be at least {least}")
    if detail not in get_args(Detail):
        raise ValueError(f"watch: detail={detail!r} must be one of {', '.join(get_args(Detail))}")
    return Telemetry(
        inner,
        watch_list=WatchList(inner, names, invariances, where),
        every=every,
        detail=detail,
        limit=limit,
        keep=keep,
        sinks=tuple(sinks),
        measures=all_ranks or _is_first(),
    )


def _hooked(optimizer: Any) -> Optimizer:
    """The optimizer whose step calls hooks: the one inside of a wrapper that only looks like an optimizer."""
    while not hasattr(optimizer, "_optimizer_step_pre_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"watch: a {type(optimizer).__name__} came; pass the torch.optim.Optimizer whose step is called"
        )
    return optimizer


def _is_first() -> bool:
    """Whether this is the only process, or the one with rank 0."""
    return not _is_distributed() or torch.distributed.get_rank() == 0


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _has_parts(optimizer: Optimizer) -> bool:
    """Whether some parameter is spread over ranks."""
    return any(is_dtensor(p) for group in optimizer.param_groups for p in group["params"])
