"""Every trainer that the documents name: does it train, resume, and can its steps be watched?

    python benchmarks/stacks.py                        rewrites docs/trainers.md
    python benchmarks/stacks.py NAME FOLDER            runs one, and leaves its outcome.json in the folder

Each example in examples/trainers is run three times: four epochs, two epochs, and two more from the checkpoint of
those. Its row in the table is what the runs gave, and the page shows the code that was run. A stack whose library is
not installed keeps the row it has.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "trainers"
PAGE = ROOT / "docs" / "trainers.md"
EPOCHS = 4
STEPS = 16


def call(model: nn.Module, x: Tensor) -> Tensor:
    """Run a model on images in training mode: after so few steps BatchNorm's averages are not worth testing with."""
    return model.train()(x.to(next(model.parameters()).dtype))


@dataclass(frozen=True)
class Stack:
    """One example.

    Args:
        title: Its heading on the page.
        package: The distribution it needs.
        processes: How many it is run with.
        call: From its model and images to logits.
    """

    title: str
    package: str = "torch"
    processes: int = 1
    call: Callable[[Any, Tensor], Tensor] = call

    @property
    def version(self) -> str | None:
        """The version of its library; None if it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


STACKS = {
    "plain_torch": Stack("Plain torch"),
    "lightning_trainer": Stack("Lightning Trainer", "lightning"),
    "fabric_loop": Stack("Lightning Fabric", "lightning"),
    "transformers_trainer": Stack("Transformers Trainer", "transformers"),
    "transformers_optimizers": Stack("Transformers Trainer with `optimizers=`", "transformers"),
    "accelerate_loop": Stack("Accelerate", "accelerate"),
    "timm_script": Stack("timm", "timm"),
    "ignite_engine": Stack("Ignite", "pytorch-ignite"),
    "skorch_net": Stack("skorch", "skorch"),
    "fastai_learner": Stack("fastai", "fastai"),
    "keras_model": Stack("Keras 3", "keras", call=lambda model, x: model(x.permute(0, 2, 3, 1), training=True)),
    "peft_lora": Stack("peft", "peft"),
    "ddp": Stack("DistributedDataParallel", processes=2),
    "dcp": Stack("Distributed checkpoints", processes=2),
    "zero_redundancy": Stack("ZeroRedundancyOptimizer", processes=2),
    "deepspeed_engine": Stack("DeepSpeed", "deepspeed"),
    "gradient_release": Stack("Gradient release"),
}


@dataclass(frozen=True)
class Outcome:
    """What the three runs of an example gave.

    Args:
        losses: After half of the training, and after all of it.
        difference: Largest between an entry of the model's state in the run in one go and in the resumed one.
        moved: Largest change of an entry in the resumed half: what a difference of zero is to be seen beside.
        steps: Steps that telemetry counted in the run in one go, and in the resumed one.
        records: Whether both have the same last record, that of the last step.
        kinds: What is known of each weight in it.
    """

    losses: tuple[float, float]
    difference: float
    moved: float
    steps: tuple[int, int]
    records: bool
    kinds: dict[str, str | None]

    @property
    def trains(self) -> bool:
        """Whether the loss went down all along."""
        return self.losses[1] < self.losses[0] < 1.6  # log 5, that of a guess

    @property
    def resumes(self) -> bool:
        """Whether the resumed run ended bit for bit where the run in one go did."""
        return self.difference == 0 and self.moved > 0

    @property
    def watched(self) -> bool:
        """Whether the resumed run went on counting, and measured what the run in one go did."""
        return bool(self.kinds) and self.records and self.steps == (STEPS, STEPS)


def example(name: str) -> Any:
    """The module of an example, which imports its neighbours by name."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(name)


def outcome(name: str, folder: Path, **settings: Any) -> Outcome:
    """Run an example three times.

    Args:
        name: Which.
        folder: Where its checkpoints go.
        **settings: More arguments of its `train`.
    """
    train, problem = example(name).train, example("problem")
    for part in ("whole", "half"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    whole, telemetry = train(folder / "whole", EPOCHS, **settings)
    half, _ = train(folder / "half", EPOCHS // 2, **settings)
    resumed, again = train(folder / "half", EPOCHS, resume=True, **settings)
    difference, moved = worst(whole, resumed), worst(half, resumed)
    last, other = ((each.latest or {}).get("weights", {}) for each in (telemetry, again))
    logits = [STACKS[name].call(model, problem.images) for model in (half, whole)]
    halfway, end = (cross_entropy(each.float(), problem.labels).item() for each in logits)
    steps = telemetry.step, again.step
    kinds = {key: own["kind"] for key, own in last.items()}  # Keras names the weights of every model anew
    return Outcome((halfway, end), difference, moved, steps, [*last.values()] == [*other.values()], kinds)


def worst(a: nn.Module, b: nn.Module) -> float:
    """The largest difference between two models' states, which may have other names."""
    pairs = list(zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    return max((x.double() - y.double()).abs().max().item() for x, y in pairs if x.is_floating_point())


def measured(name: str, folder: Path) -> Outcome:
    """The outcome of an example in processes of its own."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={STACKS[name].processes}"]
    command = [sys.executable, *(torchrun if STACKS[name].processes > 1 else []), __file__, name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-4000:]}")
    found = json.loads((folder / "outcome.json").read_text())
    return Outcome(**{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()})


def run_one(name: str, folder: Path) -> None:
    """Run an example in this process, one of several perhaps, and leave the outcome in the folder."""
    distributed = STACKS[name].processes > 1
    if distributed:
        torch.distributed.init_process_group("gloo")
    found = outcome(name, folder)
    if not distributed or torch.distributed.get_rank() == 0:
        (folder / "outcome.json").write_text(json.dumps(asdict(found)))
    if distributed:
        torch.distributed.destroy_process_group()


def glue(name: str) -> int:
    """Lines of an example that AdamW would not have, without imports and the optimizer's own."""
    code = (EXAMPLES / f"{name}.py").read_text().split('"""', 2)[2]
    ours = [line for line in code.splitlines() if re.search(r"\b(found|[Tt]elemetry\w*|param_groups|watch)\b", line)]
    return sum(not re.match(r"\s*(from|import|return|def)\b", line) and "AdamP" not in line for line in ours)


def row(name: str, found: Outcome) -> str:
    """A line of the table."""
    stack = STACKS[name]
    resumes = "bit for bit" if found.resumes else f"no, off by {found.difference:.0e}"
    answers = "yes" if found.trains else "no", resumes, "works" if found.watched else "no"
    return f"| {' | '.join([stack.title, str(glue(name)), *answers])} |"


INTRO = """# With your trainer

AdamP and SGDP are torch optimizers, so they go where a torch optimizer goes. What the detector and the telemetry need
in addition is shown here for each training stack (Lightning, Hugging Face Transformers and Accelerate, known as
huggingface, timm, fastai, Keras, plain DDP, ...), in an example that is run by the tests.

Three things hold in all of them:

- **Groups** come from `found.param_groups(...)`, made before or after the model is wrapped. The prefixes of wrappers
  (`module.`, `_orig_mod.`, `_forward_module.`, `_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.`) do not change
  which weight a name means: in groups, in `watch`, in what you set yourself. A name that matches nothing is an error.
- **State dicts** are plain values: what saves and loads a torch optimizer saves and loads these.
- **Telemetry** is `watch(optimizer)`, or a callback where the trainer owns the loop; its `state_dict` goes into the
  checkpoint, and `go_on_from(step)` sets its count where a trainer keeps no state but its own.

## What was tried

Made by `python benchmarks/stacks.py`. Each example trains for four epochs in one go, and for two and, from the
checkpoint, two more. *Glue* is the lines that AdamW would not have, without imports and the line of the optimizer.
*Trains*: the loss goes down all along. *Resumes*: every weight and buffer ends where it does in one go.
*Telemetry*: the resumed run goes on counting, and its last record is that of the run in one go.

| stack | glue | trains | resumes | telemetry |
| --- | --- | --- | --- | --- |
"""

REST = """
In these, parameters are not whole, and the optimizers state so instead of training with wrong blocks:

- **FSDP1** and **DeepSpeed ZeRO 1 to 3** exchange the parameters of a group for flat vectors.

**Accelerate with FSDP2** takes the lines of the Accelerate example:
`prepare` puts the sharded parameters into the groups, and `save_state` and `load_state` keep the optimizer's state
through `torch.distributed.checkpoint`. Two ranks that train, save, load and go on end within 1e-12 of one process in
float64 (`tests/sharding/test_trainers.py`; it runs on a CPU, where Accelerate replicates unless, as there, its state is
made to say otherwise).

Install what you want to try with `pip install 'tangential[stacks]'`; `make stacks` runs every example, those of heavy
libraries too, and the suite runs the others.

## Examples

All train the net of `examples/trainers/problem.py`: `net()` has two normalised convolutions and a linear head,
`loader()` gives four batches of 16 `images` and `labels`, and `demo(train)` trains for two epochs and resumes.
"""


def page(rows: dict[str, str]) -> str:
    """The whole page, from the rows of its table."""
    return INTRO + "\n".join(rows.values()) + "\n" + REST + "".join(map(section, STACKS))


def section(name: str) -> str:
    """What an example has to say, and its code."""
    _, doc, code = (EXAMPLES / f"{name}.py").read_text().split('"""', 2)
    return f"\n### {STACKS[name].title}\n\n{doc.strip()}\n\n```py\n{code.strip()}\n```\n"


def rows_of(text: str) -> dict[str, str]:
    """The rows of the table on a page, by example."""
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    return {name: lines[stack.title] for name, stack in STACKS.items() if stack.title in lines}


def write_page() -> None:
    """Run every example whose library is installed, and write the page."""
    rows = rows_of(PAGE.read_text()) if PAGE.exists() else {}
    for name in (name for name, stack in STACKS.items() if stack.version):
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = row(name, measured(name, Path(folder)))
        print(rows[name], flush=True)
    PAGE.write_text(page({name: rows[name] for name in STACKS if name in rows}))


if __name__ == "__main__":
    run_one(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) == 3 else write_page()
