"""State of other optimizers in ours, and of ours in others: twenty steps there, then twenty more in both.

    python benchmarks/migration.py         rewrites docs/migration.md

The optimizers are those of the tests (`tests/support/foreign_optimizers.py`). States are copied before they are loaded:
two optimizers would otherwise step the same moment tensors, and every difference would look small.
"""

from __future__ import annotations

import copy
import importlib
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tangential

ROOT = Path(__file__).parents[1]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))
foreign: Any = importlib.import_module("support.foreign_optimizers")
steps: Any = importlib.import_module("support.weights")

PAGE = ROOT / "docs" / "migration.md"
STEPS = 20
EXACT = 1e-12
SHAPES = [(6, 5), (4, 3), (7,)]


def settings_of(settings: dict[str, Any]) -> str:
    """Settings as a constructor has them."""
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())


def named(cls: type, settings: dict[str, Any]) -> str:
    """An optimizer as a row shows it."""
    package, name = cls.__module__.split(".")[0], cls.__name__
    package, name = ("pytorch_optimizer` 3.x*", name.rstrip("3")) if package == "support" else (f"{package}`", name)
    return f"`{package} `{name}({settings_of(settings)})`"


def copied(params: list[Tensor]) -> list[Tensor]:
    """The same weights in other tensors."""
    return [p.detach().clone().requires_grad_() for p in params]


class Lost(logging.Handler):
    """What the line of the log names as lost."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the end of the line."""
        self.last = record.getMessage().partition("; lost: ")[2]


LOST = Lost()


def into_ours(cls: type, settings: dict[str, Any], ours: type) -> tuple[float, str]:
    """The largest relative difference after twenty steps there and twenty more in both, and what was lost."""
    theirs = steps.weights(shapes=SHAPES)
    other = cls(theirs, **settings)
    steps.run(other, theirs, STEPS)
    mine = copied(theirs)
    optimizer = ours(mine, blocks="cosine" if "wd_ratio" in other.defaults else None)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    return steps.gap(steps.run(optimizer, mine, STEPS), steps.run(other, theirs, STEPS)), LOST.last


def out_of_ours(ours: type, settings: dict[str, Any], cls: type, required: dict[str, Any], format: str) -> float:
    """The same from ours to another."""
    mine = steps.weights(shapes=SHAPES)
    optimizer = ours(mine, **settings)
    steps.run(optimizer, mine, STEPS)
    theirs = copied(mine)
    other = cls(theirs, **required)
    other.load_state_dict(tangential.export_state(optimizer, format))
    return steps.gap(steps.run(optimizer, mine, STEPS), steps.run(other, theirs, STEPS))


def arrivals() -> list[str]:
    """Rows of what is read."""
    found = []
    for cls, settings, ours, *_ in [*foreign.CONTINUED.values(), *foreign.REPORTED.values()]:
        far, lost = into_ours(cls, settings, ours)
        found.append(f"| {named(cls, settings)} | {ours.__name__} | {verdict(far)} | {lost} |")
    return found


def refusals() -> list[str]:
    """Rows of what is read only if a loss is allowed, with the names of the losses."""
    found = []
    for cls, settings, ours, _ in foreign.REFUSED.values():
        params = steps.weights(shapes=SHAPES[:2])
        other = cls(params, **settings)
        steps.run(other, params, 2)
        try:
            ours(params).load_state_dict(other.state_dict())
        except ValueError as error:
            way_out = str(error).partition("allow=")[2].partition(")")[0]
            if way_out:
                found.append(f"| {named(cls, settings)} | {ours.__name__} | `allow={way_out})` |")
    return found


def departures() -> list[str]:
    """Rows of what is exported."""
    found = []
    for who, (ours, settings, cls, required) in foreign.EXPORTED.items():
        format = who.split()[0].strip(",")
        far = out_of_ours(ours, settings, cls, required, format)
        call = f"`{ours.__name__}({settings_of(settings)})`"
        asked = {key: value for key, value in required.items() if key != "lr"}
        found.append(f"| {call} | `{format}` | {named(cls, asked)} | {verdict(far)} |")
    return found


def verdict(far: float) -> str:
    """A difference as a row shows it."""
    return f"below {EXACT:.0e}" if far < EXACT else f"{far:.0e}"


def page() -> str:
    """The whole page."""
    packages = ("adamp", "timm", "torch_optimizer", "pytorch_optimizer")
    versions = ", ".join(f"`{name}` {version(name)}" for name in packages)
    logger = logging.getLogger("tangential")
    logger.addHandler(LOST)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tables = {"arrivals": arrivals(), "refusals": refusals(), "departures": departures()}
    made = f"Made by `make parity` with {versions}, `torch` {torch.__version__.partition('+')[0]}."
    return TEXT.format(made=made, steps=STEPS, **{name: "\n".join(rows) for name, rows in tables.items()})


TEXT = """# Migration

A run of another optimizer continues with SGDP or AdamP, and the other way round, without a jump: moments and step
counts are taken over.

## From AdamW to AdamP in the middle of a run

```python
import torch
from tangential import AdamP, export_state, find_invariances

model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
adamw = torch.optim.AdamW(model.named_parameters(), lr=1e-3, weight_decay=1e-2)
batch = torch.randn(4, 3, 8, 8)
model(batch).square().mean().backward()
adamw.step()

adamp = AdamP(find_invariances(model, batch).param_groups())
adamp.load_state_dict(adamw.state_dict())  # this line
```

`adamw` has one group and `adamp` one per kind of block: parameters are matched by their names where both sides have
them. Groups without names are matched by their order, as torch does. Where AdamW was made of `model.parameters()`,
give its state the names first:

```python
saved = adamw.state_dict()
saved["param_groups"][0]["param_names"] = [name for name, _ in model.named_parameters()]
adamp.load_state_dict(saved)
```

## One rule for settings

A setting that the state dict has is taken over, as in every torch optimizer; one that it lacks stays as the
constructor had it. So `lr`, `betas`, `eps`, `weight_decay` come from AdamW, and `blocks`, `delta`, `wd_ratio`,
`nesterov` are yours; AdamP's state of another package brings its own `delta`, `wd_ratio` and `nesterov`, and `blocks`
stays. Backends (`foreach`, `fused`, `capturable`, `differentiable`) always stay. timm's SGDW, whose decay is not
divided by `1 - momentum`, brings a `weight_decay` that amounts to the same. To change a setting in the same moment,
write it into the groups after loading: `for group in adamp.param_groups: group["weight_decay"] = 0.1`.

State that was saved before the first step, or has parameters without any, is filled at their first step. One line of
the logger `tangential` states what was taken, filled and lost (a warning, if something was):

```text
AdamP goes on from the state of Adam or AdamW of torch: taken: lr, eps, weight_decay, betas, maximize, step,
exp_avg, exp_avg_sq of 3 parameters; filled from its own: delta, wd_ratio, blocks, nesterov, ...; lost: nothing
```

## What is read

{steps} steps in the other optimizer, then {steps} more in both from the same weights and a copy of the state, in
float64; the number is the largest difference of a weight, relative to its largest entry. Optimizers that project
nothing go on in ours with `blocks=None`.

| state of | goes on in | difference | lost |
| --- | --- | --- | --- |
{arrivals}

\\* 3.x cannot be installed beside 4.x: `tests/support/kozistr_3.py` states its state and its steps independently.

{made}

What is lost without a refusal is of the size of a rounding, of one step, or a slip of the package:

- `pytorch_optimizer` adds `eps` before the bias correction of the second moment, which matters for gradients near
  zero in the first hundreds of steps (at 1e-30 it matters nowhere, as the table shows); 3.x does not divide Nesterov
  momentum by the root of the second moment.
- `SGDP` of `adamp` and `torch_optimizer` without Nesterov momentum projects its momentum buffer in place. Ours goes
  on from the buffer as it is and never projects it (Algorithm 1), which is another trajectory.
- `torch.optim.SGD` begins a buffer with an undampened gradient.

## What is refused

What would change the trajectory is refused, with the name by which you can allow it:

```python
amsgrad = torch.optim.AdamW(model.parameters(), amsgrad=True)
AdamP(model.parameters()).load_state_dict(amsgrad.state_dict(), allow=("amsgrad",))  # without the maximum
```

| state of | into | continues with |
| --- | --- | --- |
{refusals}

Coupled weight decay becomes decoupled with the same number: right for SGD, whose decay SGDP's is made to equal; for
Adam choose it anew. State of other optimizers (Adagrad, RMSprop, Lion, LAMB, ...) is refused in any case.

## Back, or on to another package

```python
adamp = AdamP([dict(params=list(model.parameters()), blocks=None)])
model(batch).square().mean().backward()
adamp.step()
adamw = torch.optim.AdamW(model.parameters())
adamw.load_state_dict(export_state(adamp, "adamw"))
```

`export_state(optimizer, format)` writes the state dict of another optimizer, and refuses what that one would not
continue: torch's optimizers project nothing, the packages know only the paper's test, `adamp` and `torch_optimizer`
project the buffer of plain momentum, SGD's weight decay is coupled. `allow=("projection",)` exports without.

| ours | format | goes on in | difference |
| --- | --- | --- | --- |
{departures}

## Groups that other optimizers had before

torch's optimizers keep the dicts that they are given and write their defaults into them. SGDP and AdamP take such
dicts where the foreign settings change nothing (`amsgrad=False`, `decoupled_weight_decay=True`, `momentum=0`, ...)
and refuse the others with the reason. Mind that `lr` and `weight_decay` of the first optimizer then stand in the
groups and win over the second's constructor. Give each optimizer its own: call `param_groups()` again, or copy with
`[dict(group) for group in groups]` before the first one is made.

A parameter twice in one group is an error here; torch warns and steps it twice with one gradient, which nobody wants.

## Distributed checkpoints

`torch.distributed.checkpoint.state_dict`, flattened or not, resumes bit for bit at any step. Where there is no state
yet, it makes one by a step with `lr` 0 and zero gradients. torch's AdamW counts that step, so that a run that is
saved at its start has other bias corrections than one that is not; SGDP and AdamP do not count a first step that
moves nothing.
"""


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE.name}\n")
