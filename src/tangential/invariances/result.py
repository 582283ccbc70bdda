"""`Invariances`: parameter names and the blocks an optimizer may project, with the reasons."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tangential.blocks import Blocks
from tangential.invariances import table
from tangential.invariances.param_groups import Decays, grouped
from tangential.invariances.parameter_names import matching, unprefixed
from tangential.invariances.verdicts import KINDS, Absorber, Verdict, explained, kind_and_label

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

_VERSION = 1


class Invariances(Mapping[str, "Blocks | None"]):
    """Which weights of a model are scale-invariant: a mapping from parameter names to `Blocks` or None.

    Names are those of the model that was analysed. Other names of a shared parameter, and names with the prefixes of
    DistributedDataParallel, FSDP, checkpoint wrappers and torch.compile, are understood as well. What you know better
    can be set, for one parameter or a shell pattern: `found["head.weight"] = None`, `found["*.q_proj.weight"] =
    Blocks(size=64)`.

    Args:
        verdicts: What is known about each parameter.
        parameters: The parameters themselves; only weak references are kept.
        aliases: Further names of shared parameters and the names they stand for.
        notes: What the reader must know about the analysis.

    Examples:
        >>> found = Invariances([Verdict("w", (8, 3), "channel", Blocks(), reason="a batch normalisation follows")])
        >>> found["module.w"]
        Blocks(dim=0, size=1, segments=None)
        >>> found["w"] = None
        >>> found.verdict("w").kind
        'none'
    """

    def __init__(
        self,
        verdicts: Iterable[Verdict],
        *,
        parameters: Mapping[str, Tensor] | None = None,
        aliases: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ):
        self._verdicts = {verdict.name: verdict for verdict in verdicts}
        self._weights = {name: weakref.ref(weight) for name, weight in (parameters or {}).items()}
        self._aliases = dict(aliases or {})
        self.notes = tuple(notes)

    def __getitem__(self, name: str) -> Blocks | None:
        """The blocks of a parameter, or None if it must not be projected."""
        return self.verdict(name).blocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._verdicts)

    def __len__(self) -> int:
        return len(self._verdicts)

    def __setitem__(self, pattern: str, blocks: Blocks | None) -> None:
        """Set the blocks of a parameter, or of all that a shell pattern matches.

        Raises:
            KeyError: The pattern matches no parameter.
            TypeError: Neither Blocks nor None came.
            ValueError: The blocks do not fit a shape.
        """
        if blocks is not None and not isinstance(blocks, Blocks):
            raise TypeError(f"invariances[{pattern!r}] must be Blocks or None, not {type(blocks).__name__}")
        chosen = [_chosen(self._verdicts[name], blocks) for name in self._names(pattern)]
        self._verdicts.update({verdict.name: verdict for verdict in chosen})

    def verdict(self, name: str) -> Verdict:
        """All that is known about one parameter.

        Raises:
            KeyError: There is no such parameter.
        """
        return self._verdicts[self._resolved(name)]

    def select(self, pattern: str = "*", kind: str | None = None) -> Invariances:
        """The part of the answer whose names match a shell pattern and whose kind is `kind`, if that is given.

        Raises:
            KeyError: The pattern matches no parameter.
            ValueError: There is no such kind.
        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
        names = [n for n in self._names(pattern) if kind in (None, self._verdicts[n].kind)]
        part = Invariances([self._verdicts[name] for name in names], notes=self.notes)
        part._weights = {name: self._weights[name] for name in names if name in self._weights}
        part._aliases = {alias: name for alias, name in self._aliases.items() if name in part}
        return part

    def explain(self, name: str) -> str:
        """What is known about one parameter, in words."""
        return explained(self.verdict(name))

    def param_groups(
        self,
        model: nn.Module | None = None,
        *,
        weight_decay: float = 0.0,
        no_decay: Decays = None,
        names: bool = True,
        **common: Any,
    ) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer, one for each different pair of blocks and weight decay.

        Each group has the keys `params`, `param_names` as torch's optimizers keep them, `blocks` and `weight_decay`.
        `AdamP` and `SGDP` project these blocks and nothing else. Frozen parameters are left out.

        Args:
            model: The model whose parameters to take. Without it they are those that were analysed, which wrapping in
                DistributedDataParallel or torch.compile does not change. FSDP, or an answer from a file, needs it.
            weight_decay: For every parameter that decays.
            no_decay: Parameters that do not: shell patterns of names, or a function of name and parameter, such as
                `lambda name, parameter: parameter.ndim < 2`. By default all decay, as in torch's optimizers.
            names: Whether groups have names. An optimizer that deals the parameters of a group out to processes, such
                as torch's ZeroRedundancyOptimizer, needs groups without.
            **common: Further keys for every group, such as `lr`.

        Raises:
            TypeError: A key that belongs to the answer was given.
            ValueError: The parameters are gone, are not those that were analysed, or a pattern matches none.

        Examples:
            >>> net = nn.Linear(2, 3)
            >>> weight, bias = Verdict("weight", (3, 2), "layer", Blocks(size=None)), Verdict("bias", (3,), "dead")
            >>> found = Invariances([weight, bias])
            >>> [(group["blocks"], len(group["params"])) for group in found.param_groups(net, weight_decay=1e-2)]
            [(Blocks(dim=0, size=None, segments=None), 1), (None, 1)]
        """
        weights = self._parameters() if model is None else self._parameters_of(model)
        trainable = [(name, weight, self[name]) for name, weight in weights.items() if weight.requires_grad]
        return grouped(trainable, weight_decay, no_decay, common, names)

    def to_json(self) -> str:
        """The answer as text; `from_json` reads it."""
        entries = [asdict(verdict) for verdict in self._verdicts.values()]
        content = {"version": _VERSION, "notes": self.notes, "aliases": self._aliases, "parameters": entries}
        return json.dumps(content, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Invariances:
        """Read what `to_json` wrote. The parameters are not in it: give `param_groups` the model.

        Raises:
            ValueError: The text is something else, or from a newer version.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            raise ValueError(f"Invariances.from_json: expected what to_json wrote, version {_VERSION}")
        verdicts = [_verdict(entry) for entry in content["parameters"]]
        return cls(verdicts, aliases=content["aliases"], notes=content["notes"])

    def __reduce__(self) -> tuple[Callable[[str], Invariances], tuple[str]]:
        # Weak references cannot be pickled; what is left is what a file holds.
        return Invariances.from_json, (self.to_json(),)

    def __str__(self) -> str:
        return table.text(list(self._verdicts.values()), self.notes)

    def __repr__(self) -> str:
        return f"<Invariances of {table.summary(list(self._verdicts.values()))}>"

    def _repr_html_(self) -> str:
        return table.html(list(self._verdicts.values()), self.notes)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        yield table.rich_table(list(self._verdicts.values()), self.notes, options.max_width)

    def _resolved(self, name: str) -> str:
        if name in self._verdicts:
            return name
        if name in self._aliases:
            return self._aliases[name]
        alike = {
            self._aliases.get(n, n) for n in (*self._aliases, *self._verdicts) if unprefixed(n) == unprefixed(name)
        }
        if len(alike) == 1:
            return alike.pop()
        if alike:
            raise KeyError(f"{name!r} could be {' or '.join(map(repr, sorted(alike)))}; write it as the model has it")
        raise KeyError(f"no parameter {name!r}; the names are {_some(self._verdicts)}")

    def _names(self, pattern: str) -> list[str]:
        if pattern in self._verdicts or not set(pattern) & set("*?["):
            return [self._resolved(pattern)]
        known = dict.fromkeys(self._aliases.get(name, name) for name in matching(pattern, (*self, *self._aliases)))
        if not known:
            raise KeyError(f"{pattern!r} matches no parameter; the names are {_some(self._verdicts)}")
        return list(known)

    def _parameters(self) -> dict[str, Tensor]:
        alive = {name: weight for name, reference in self._weights.items() if (weight := reference()) is not None}
        if len(alive) < len(self._verdicts):
            raise ValueError("the parameters that were analysed are gone, or were never known; use param_groups(model)")
        return alive

    def _parameters_of(self, model: nn.Module) -> dict[str, Tensor]:
        found = {}
        for name, weight in model.named_parameters():
            try:
                known = self.verdict(name)
            except KeyError as error:
                why = f"parameter {name!r} of the model was not analysed ({error.args[0]}); analyse this model"
                raise ValueError(why) from None
            if known.name in found:
                raise ValueError(f"parameter {name!r} of the model is {known.name!r} in the answer, and so is another")
            if tuple(weight.shape) != known.shape:
                raise ValueError(f"parameter {name!r} has shape {tuple(weight.shape)}, but {known.shape} was analysed")
            found[known.name] = weight
        return found


def _chosen(verdict: Verdict, blocks: Blocks | None) -> Verdict:
    if blocks is None:
        kind = "none"
    else:
        try:
            kind, _ = kind_and_label(blocks, verdict.shape)
        except ValueError as error:
            raise ValueError(f"invariances[{verdict.name!r}]: {error}") from None
    return replace(
        verdict, kind=kind, blocks=blocks, chosen=True, absorbers=(), reason=f"the analysis said: {verdict.label}"
    )


def _verdict(entry: dict[str, Any]) -> Verdict:
    blocks = entry["blocks"]
    if blocks is not None:
        segments = blocks["segments"]
        blocks = Blocks(blocks["dim"], blocks["size"], segments and tuple(map(tuple, segments)))
    absorbers = tuple(Absorber(**absorber) for absorber in entry["absorbers"])
    return Verdict(**{**entry, "shape": tuple(entry["shape"]), "blocks": blocks, "absorbers": absorbers})


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
