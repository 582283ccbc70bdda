"""Names of weights, with and without what wrappers of a model put in front of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from tangential.blocks import Blocks
from tangential.invariances import Invariances
from tangential.invariances.parameter_names import unprefixed

Names = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]


def parameters_by_name(names: Names | None) -> dict[int, tuple[str, Tensor]]:
    """Names and parameters, by the identity of the parameter.

    Args:
        names: What `named_parameters` gives, or a mapping.

    Raises:
        TypeError: Something else.
        ValueError: One name twice.
    """
    if names is None:
        return {}
    try:
        pairs: list[Any] = [(name, weight) for name, weight in (names.items() if isinstance(names, Mapping) else names)]
        fits = all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in pairs)
    except (TypeError, ValueError):
        fits, pairs = False, []
    if not fits:
        raise TypeError("watch: names must be pairs of name and parameter; pass names=model.named_parameters()")
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("watch: names has one name twice; each parameter needs its own, as model.named_parameters has")
    return {id(weight): (name, weight) for name, weight in pairs}


class BlocksByName:
    """Blocks of weights by name: exactly as written, or with the prefixes of wrappers left out on both sides.

    Args:
        invariances: Blocks or None by name, such as `find_invariances` gives; None if nothing is known.

    Raises:
        TypeError: Something else.

    Examples:
        >>> BlocksByName({"conv.weight": Blocks()}).find("_orig_mod.module.conv.weight")
        (True, Blocks(dim=0, size=1, segments=None))
        >>> BlocksByName({"conv.weight": None}).find("conv.bias")
        (False, None)
    """

    def __init__(self, invariances: Mapping[str, Blocks | None] | None) -> None:
        if invariances is not None and not isinstance(invariances, Mapping):
            raise TypeError(
                f"watch: invariances is a {type(invariances).__name__}: must be a mapping from names to Blocks or None,"
                " as find_invariances gives"
            )
        self._invariances = {} if invariances is None else invariances
        self._plain: dict[str, list[str]] = {}
        for name in self._invariances:
            if not isinstance(name, str) or not isinstance(self._invariances[name], (Blocks, type(None))):
                raise TypeError(
                    f"watch: invariances[{name!r}] is {self._invariances[name]!r}: must be a name with Blocks or None"
                )
            self._plain.setdefault(unprefixed(name), []).append(name)

    def find(self, name: str) -> tuple[bool, Blocks | None]:
        """Whether anything is known of the weight, and its blocks; None for a variant weight.

        Raises:
            ValueError: The name stands for several once prefixes are left out.
        """
        if name in self._invariances:  # `Invariances` takes further names of shared parameters
            return True, self._invariances[name]
        alike = self._plain.get(unprefixed(name), [])
        if len(alike) > 1:
            raise ValueError(f"watch: parameter {name!r} could be {' or '.join(map(repr, alike))} of the invariances")
        return bool(alike), self._invariances[alike[0]] if alike else None

    def check(self, names: list[str], *, complete: bool) -> None:
        """Refuse entries that no parameter has.

        Args:
            names: Those of all parameters.
            complete: Whether these are the parameters of a model, and not those of one of its optimizers.

        Raises:
            ValueError: An entry would be left out without a word.
        """
        if not self._invariances:
            return
        if not names:
            raise ValueError("watch: invariances need names to be looked up by; pass names=model.named_parameters()")
        plain = {unprefixed(name) for name in names}
        idle = [name for name in self._invariances if name not in names and unprefixed(name) not in plain]
        if isinstance(self._invariances, Invariances):  # a model's: frozen weights, other optimizers' and aliases too
            reached = any(self.find(name)[0] for name in names)
            idle = [name for name in idle if complete and self._invariances[name] is not None] if reached else idle
        if idle:
            more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
            raise ValueError(
                f"watch: invariances has {', '.join(map(repr, idle[:3]))}{more}, but no parameter is called so; the"
                f" names begin with {', '.join(map(repr, names[:3]))}. Pass names=model.named_parameters() of the model"
                " that was analysed, whatever wraps it"
            )
