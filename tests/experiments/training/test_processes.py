"""Several processes train as one: the same result for the same batch, whatever their number."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from tangential.cli import app
from tangential.experiments.runs.checkpoint import load_checkpoint
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.training.devices import start
from tangential.experiments.training.sync_batchnorm import share_batch_norm

pytestmark = pytest.mark.slow

# known blocks: the paper's test can be turned at its bound by the rounding of a sum over processes, which changes all
BLOCKS = ("optimizers.adamp.blocks=detected",)
SETTINGS = ("epochs=1", "batch_size=133", *BLOCKS, "--seeds", "1", "--precision", "64")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def python(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def train(out, launch=(), *settings):
    answer = python(*launch, "-m", "tangential", "train", "digits", *settings, "--logger", "none", "--out", out)
    assert answer.returncode == 0, answer.stderr
    return answer


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folders of one process and of two, which share batches of 133."""
    out = tmp_path_factory.mktemp("processes")
    train(out / "one", (), *SETTINGS)
    train(out / "two", TORCHRUN, *SETTINGS)
    return out / "one", out / "two"


@pytest.mark.parametrize("optimizer", ["sgd", "sgdp", "adamw", "adamp"])
def test_two_processes_give_the_result_of_one(both, optimizer):
    one, two = (RunFolder(out / f"{optimizer}-seed0") for out in both)
    states = load_checkpoint(one)["model"], load_checkpoint(two)["model"]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        gap = float((states[0][name].double() - states[1][name].double()).abs().max())
        assert torch.allclose(states[0][name], states[1][name], rtol=1e-9, atol=1e-9), (name, gap)
    for mine, theirs in zip(one.metrics(), two.metrics(), strict=True):
        for name in mine.keys() - {"seconds", "ms_per_step"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-9, abs=1e-9), name
    assert (one.environment()["processes"], two.environment()["processes"]) == (1, 2)
    assert one.settings() == two.settings()


def test_run_of_two_processes_goes_on_in_one(both, monkeypatch, capsys):
    """Settings do not say how many processes there were, so either may go on with the other's runs."""
    monkeypatch.setattr(sys, "argv", ["tangential", "train", "digits", *SETTINGS, "--out", str(both[1])])
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as stopped:
        app.run()
    for each, handler in handlers.items():
        signal.signal(each, handler)
    captured = capsys.readouterr()
    assert not stopped.value.code, captured.err
    assert "4 of 4 runs are finished already" in captured.out


def test_two_processes_are_started_without_torchrun(tmp_path):
    train(tmp_path / "out", (), "--smoke", "--only", "sgd", "--devices", "2", "--accelerator", "cpu")
    assert RunFolder(tmp_path / "out" / "sgd-seed0").environment()["processes"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(strategy="fsdp"), "strategy=fsdp: sharded weights are not supported yet, because a shard"),
        (dict(strategy="deepspeed_stage_2"), "sharded weights are not supported yet"),
        (dict(strategy="dp"), "strategy=dp: choose from auto, ddp"),
        (dict(precision="16"), "precision=16: choose from 32, 64, bf16-mixed, 16-mixed"),
        (dict(precision="16-mixed", accelerator="cpu"), "16-mixed needs a GPU; on a CPU use bf16-mixed"),
        (dict(accelerator="tricorder"), "accelerator=tricorder, devices=1: "),
    ],
)
def test_what_cannot_be_had_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        start(**arguments)


def test_batch_norm_with_more_in_it_is_refused():
    class Activated(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="the model has a Activated, whose statistics several processes cannot share"):
        share_batch_norm(nn.Sequential(Activated(3)), torch.device("cpu"))


NORMS = """
import sys, torch, json
from torch import nn
from tangential.experiments.training.sync_batchnorm import share_batch_norm
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
found = {}
flat, line, plane, space = (7, 3), (7, 3, 5), (7, 3, 2, 4), (7, 3, 2, 1, 4)
cases = [(nn.BatchNorm1d, flat), (nn.BatchNorm1d, line), (nn.BatchNorm2d, plane), (nn.BatchNorm3d, space)]
for make, shape in cases:
    for settings in ({}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}):
        torch.manual_seed(0)
        x, y = torch.randn(shape, dtype=torch.float64) + 100, torch.randn(shape, dtype=torch.float64)
        nets = [make(3, **settings).double(), share_batch_norm(make(3, **settings).double(), torch.device("cpu"))]
        results = []
        for net, rows in zip(nets, (slice(None), slice(0, 3) if rank == 0 else slice(3, 7))):
            part = x[rows].clone().requires_grad_()
            for _ in range(2):
                out = net(part)
            (out * y[rows]).sum().backward()
            results.append((out, part.grad, rows, net))
        (whole, grad, _, plain), (out, part, rows, shared) = results
        errors = [(whole[rows] - out).abs().max(), (grad[rows] - part).abs().max()]
        for mine, theirs in zip(plain.buffers(), shared.buffers(), strict=True):
            errors.append((mine - theirs).abs().max())
        for mine, theirs in zip(plain.parameters(), shared.parameters(), strict=True):
            torch.distributed.all_reduce(theirs.grad)
            errors.append((mine.grad - theirs.grad).abs().max())
        found[f"{make.__name__} {shape} {settings}"] = max(map(float, errors))
if rank == 0:
    json.dump(found, open(sys.argv[1], "w"))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_shared_batch_norm_is_batch_norm_of_the_whole_batch(tmp_path):
    script = tmp_path / "norms.py"
    script.write_text(NORMS)
    answer = python(*TORCHRUN, script, tmp_path / "errors.json")
    assert answer.returncode == 0, answer.stderr
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert len(errors) == 16
    assert max(errors.values()) < 1e-9, errors


SHARDED = """
import os, torch, warnings
warnings.simplefilter("ignore")
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
torch.distributed.init_process_group("gloo")
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from tangential import SGDP, AdamP
def net():
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
cpu = torch.device("cpu")
sharded = [fully_shard(net(), mesh=init_device_mesh("cpu", (1,)))]
sharded += [FullyShardedDataParallel(net(), use_orig_params=each, device_id=cpu) for each in (True, False)]
for model in sharded:
    for make in (SGDP, AdamP):
        try:
            make(model.parameters(), lr=0.1)
            print("accepted")
        except ValueError as error:
            assert "flat parameter" in str(error) and "fully_shard" in str(error)
            print("refused")
"""


def test_models_sharded_by_dtensors_are_taken_and_flat_ones_refused():
    answer = python("-c", SHARDED)
    assert answer.stdout.split("\n") == ["accepted"] * 2 + ["refused"] * 4 + [""], answer.stderr
