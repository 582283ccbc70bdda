"""Training on scale-invariant weights: SGDP and AdamP, which weights they should project, and what happens.

The public names are loaded when they are first used (PEP 562), because they load torch, which takes seconds that
`tangential --help` need not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tangential.blocks import Blocks
    from tangential.invariances import Invariances, find_invariances
    from tangential.optimizers import SGDP, AdamP, export_state
    from tangential.radial import Radial
    from tangential.telemetry import watch

__all__ = ["SGDP", "AdamP", "Blocks", "Invariances", "Radial", "export_state", "find_invariances", "watch"]
__version__ = "0.1.0"

_HOMES = {
    "SGDP": "optimizers",
    "AdamP": "optimizers",
    "Blocks": "blocks",
    "Invariances": "invariances",
    "Radial": "radial",
    "export_state": "optimizers",
    "find_invariances": "invariances",
    "watch": "telemetry",
}
_ROOMS = ("algorithm", "backends", "blocks", "invariances", "kernels", "optimizers", "radial", "telemetry")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
