#!/usr/bin/env bash
# Check the CUDA kernel and measure it: parity with the float64 definition, no waiting, graph capture, GradScaler, then
# step times against torch, adamp, timm and pytorch_optimizer. Under eight minutes; results go to benchmarks/results.
#
#   benchmarks/gpu.sh                       PYTHON=python3 benchmarks/gpu.sh
#
# Exit codes: 0 done, 1 a check failed (nothing is measured then), 2 no CUDA device.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
out="${1:-benchmarks/results}"
"$python" -W ignore benchmarks/gpu_checks.py --out "$out"
"$python" -W ignore benchmarks/step_time.py --device cuda --rounds 20 --out "$out"
