"""The benchmarks run; what they find depends on the machine and is no test."""

import json
import os
import subprocess
import sys

import pytest

from support.paths import ROOT
from tangential.kernels.cpu import why_missing

pytestmark = pytest.mark.slow

BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.skipif(why_missing() is not None, reason=f"it compares the kernel: {why_missing()}")
def test_step_time_measures_writes_and_draws(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "step_time.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    subprocess.run([*command, "--only-fused", "--no-training"], check=True, capture_output=True)  # adds, takes nothing
    found = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(found) == {".json", ".md", ".png"}
    records = json.loads(found[".json"].read_text())
    keys = [(r["fires"], r["entrant"]) for r in records["steps"]]
    assert len(keys) == len(set(keys)) == 2 * len({entrant for _, entrant in keys}) > 60
    assert sum("--only-fused" in r["command"] for r in records["steps"]) == 2 * 10
    assert all(len(r["others"]) >= r["rounds"] for r in records["steps"])
    assert {"adam", "sgd"} == {r["family"] for r in records["steps"]}
    assert all(r["seconds"] > 0 and r["ratio"] > 0 for r in records["steps"])
    reference = [r for r in records["steps"] if r["entrant"] == "torch AdamW fused"]
    assert reference and all(r["ratio"] == 1 for r in reference)
    assert records["training"] and records["machine"]["cpu"]


def test_radial_measures_and_writes(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "radial.py"), "--quick", "--out", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    records = json.loads((tmp_path / "radial.json").read_text())
    assert all(r["seconds"] > 0 and r["ratio"] > 0 for r in records)
    assert printed.stdout.decode().count("\n| 1 |") == len(records) > 10


def test_telemetry_measures_and_writes(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "telemetry.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    (written,) = tmp_path.glob("*.json")
    found = json.loads(written.read_text())
    assert {r["optimizer"] for r in found["records"]} >= {"AdamP", "torch AdamW"}
    assert all(r["training"] > 0 and r["record"] for r in found["records"])
