"""The one line of the log that states what became of another optimizer's state."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from torch.optim import Optimizer

from tangential.optimizers.origins import Source
from tangential.optimizers.settings import SETTINGS

_log = logging.getLogger("tangential")


def report(
    optimizer: Optimizer, sources: Iterable[Source], moments: Sequence[str], count: int, dropped: Iterable[str]
) -> None:
    """Log what was taken, filled and lost; nothing if the state is the optimizer's own.

    Args:
        optimizer: The one that loads.
        sources: The saved groups.
        moments: Keys of the optimizer's moments.
        count: Parameters that have state.
        dropped: Keys of the state that were passed over.
    """
    foreign = [source for source in sources if source.origin is not None]
    if not foreign:
        return
    settings = [key for key in SETTINGS if key in optimizer.defaults]
    taken = [key for key in settings if all(key in source.settings() for source in foreign)]
    filled = [key for key in settings if key not in taken]
    lost = [*dict.fromkeys(words for source in foreign for _, words in source.lost), *sorted(dropped)]
    if rest := sum(len(group["params"]) for group in optimizer.param_groups) - count:
        filled.append(f"the state of {rest} parameters at their first step")
    names = dict.fromkeys(source.origin.name for source in foreign if source.origin)
    _log.log(
        logging.WARNING if lost else logging.INFO,
        "%s goes on from the state of %s: taken: %s; %s of %d parameters; filled from its own: %s; lost: %s",
        type(optimizer).__name__,
        " and ".join(names),
        ", ".join(taken),
        ", ".join(("step", *moments)),
        count,
        ", ".join(filled),
        "; ".join(lost) or "nothing",
    )
