"""The kernel for CUDA: interpreted on a CPU, compiled without a device, and run where there is one."""

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
import torch

from support.paths import ROOT
from tangential import AdamP
from tangential.backends import fused
from tangential.kernels.cuda import launch

pytestmark = pytest.mark.slow

triton = pytest.importorskip("triton", reason="Triton is not installed")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


def python(*arguments, **environment):
    """Run Python on a file of this repository; Triton's caches and settings are its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


def test_everything_holds_under_the_interpreter():
    done = python("-m", "pytest", "-q", "-n", "0", "tests/kernels/interpreted.py", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 80


COMPILED = """
import re, sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tangential.kernels.cuda import launch, phases

KINDS = dict(table="*i64", runs="*i64", work="*i64", tested="*i64", settings="*fp64", state="*i32", weights="i32",
             all_sums="i32")
half, full = tl.bfloat16, tl.float32
JOBS = {
    "80": [("apply", dict(T=(False, True, half, full, True))), ("repair", dict(T=(True, True, half, half, False)))],
    "90": [("prepare", dict(ADAM=True, B=128)), ("apply", dict(T=(True, False, full, full, False))),
           ("gather", dict(R=8, C=256)), ("decide", dict(VOTING_STEPS=20, B=512)),
           ("repair", dict(T=(True, False, half, full, True)))],
}
arch = sys.argv[1]
for name, constants in JOBS[arch]:
    kernel = getattr(phases, name)
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in constants else KINDS.get(n, "*fp32") for n in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if kinds[n].startswith("*")}
    source = ASTSource(kernel, kinds, {(names.index(n),): value for n, value in constants.items()}, aligned)
    options = dict(num_warps=launch.WARPS, **launch.ROUNDING)
    ptx = triton.compile(source, target=GPUTarget("cuda", int(arch), 32), options=options).asm["ptx"]
    print("kernel", name, len(re.findall(r"ld\\.global\\S*\\.v4", ptx)))
"""


@pytest.mark.parametrize("arch", ["80", "90"])
def test_kernels_compile_without_a_device_and_stay_in_the_registers(arch, tmp_path):
    # the assembler that Triton calls, with the options it gives: which of them is right depends on Triton's version
    settings = dict(TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0", TRITON_DUMP_PTXAS_LOG="1")
    done = python("-c", COMPILED, arch, **settings)
    assert done.returncode == 0, done.stderr[-4000:]
    found = {}
    for log, name, wide_loads in re.findall(r"(.*?)^kernel (\w+) (\d+)$", done.stdout, re.DOTALL | re.MULTILINE):
        spilled, used = re.search(r"(\d+) bytes spill stores", log)[1], re.search(r"Used (\d+) registers", log)[1]
        found[name] = [int(used), int(spilled), int(wide_loads)]
    assert {"apply", "repair"} <= set(found)
    old = importlib.metadata.version("triton").startswith("3.6.")  # torch 2.10's, whose assembler spills a little
    allowed = 28 if old else 0
    for name, (registers, spilled, wide_loads) in found.items():
        assert spilled <= allowed, f"{name} spills {spilled} bytes"
        assert registers <= (128 if name in ("apply", "repair") else 160)  # two programs of 256 threads at a time
        assert wide_loads > 10 or name not in ("apply", "repair")


def test_without_triton_a_cuda_weight_is_left_to_foreach_and_the_reason_is_said(monkeypatch):
    launch.why_missing.cache_clear()
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(fused, "CUDA", "cpu")  # no CUDA weight can be made here
    try:
        w = torch.ones(3, 2, requires_grad=True)
        assert AdamP([w]).backend == "foreach"
        with pytest.raises(ValueError, match="Triton is not installed"):
            AdamP([w], fused=True)
    finally:
        launch.why_missing.cache_clear()


def test_a_process_without_a_cuda_weight_imports_nothing_of_cuda():
    code = "import sys, torch; from tangential import AdamP; w = torch.ones(2, 2, requires_grad=True)"
    code += "; w.grad = w.detach(); AdamP([w]).step()"
    code += "; print([name for name in sys.modules if name.startswith('tangential') and 'cuda' in name])"
    assert python("-c", code).stdout.strip() == "[]"


def test_a_graph_of_numbers_from_the_host_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    w = torch.ones(3, 2, requires_grad=True)
    w.grad = torch.ones_like(w)
    with pytest.raises(RuntimeError, match="construct with capturable=True"):
        AdamP([w]).step()
    AdamP([w], capturable=True).step()


def test_gradient_scaling_is_taken_over_on_cuda_alone():
    w = torch.ones(3, 2, requires_grad=True)
    assert not AdamP([w])._step_supports_amp_scaling


def test_step_counts_on_a_device_go_to_other_backends_as_they_are():
    batch = __import__("tangential.backends.group_step", fromlist=["counts"])
    near, far = torch.zeros(()), torch.zeros((), device="meta")
    assert batch.counts([near], capturable=False) == [0.0]
    assert all(t.dtype == torch.float64 for t in batch.counts([near, far], capturable=False))


@pytest.mark.parametrize("script", ["gpu.sh"])
def test_the_benchmark_says_that_there_is_no_device(script, tmp_path):
    assert subprocess.run(["bash", "-n", ROOT / "benchmarks" / script]).returncode == 0
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", ROOT / "benchmarks" / script, tmp_path], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr and not list(tmp_path.iterdir())
    done = python("benchmarks/step_time.py", "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and "no CUDA device" in done.stderr


def test_the_checks_of_the_benchmark_run_under_the_interpreter(tmp_path):
    done = python(
        "benchmarks/gpu_checks.py", "--device", "cpu", "--quick", "--out", str(tmp_path), TRITON_INTERPRET="1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout and (tmp_path / "gpu_checks-interpreter.json").exists()


@on_gpu
def test_everything_holds_on_the_device(tmp_path):
    done = python("benchmarks/gpu_checks.py", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@on_gpu
def test_the_kernel_is_the_default_on_a_device():
    half, whole = (torch.ones(3, 2, device="cuda", dtype=t, requires_grad=True) for t in (torch.half, torch.double))
    assert AdamP([half]).backend == "fused"
    assert AdamP([half, whole]).backend == "fused+foreach"
    assert fused.takes(half)
