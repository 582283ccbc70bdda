# One command each. The first target that needs it makes .venv; nothing else has to be set up.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
TOOLS   := .venv-release
KERNEL  := $(wildcard src/tangential/kernels/c/*) src/tangential/kernels/build.py
SOURCES := pyproject.toml constraints.txt hatch_build.py $(KERNEL)

# Where there is no NVIDIA GPU, torch's own index has builds a tenth as large. It is used if it can be reached;
# TORCH_INDEX= (empty) takes what PyPI has.
CPU_INDEX    := https://download.pytorch.org/whl/cpu
TORCH_INDEX  ?= $(shell [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null 2>&1 \
                  || ! curl -fsI --max-time 5 $(CPU_INDEX)/torch/ >/dev/null 2>&1 || echo $(CPU_INDEX))
INSTALL       = -m pip install $(addprefix --extra-index-url ,$(TORCH_INDEX))
PINNED        = $(INSTALL) --constraint constraints.txt

.PHONY: install demo test test-fast test-floor test-newest lock lint check fix docs bench bench-gpu figures sanitize parity peers stacks release sharding engines browser

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.recipes: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing into $(VENV): some minutes and up to 7 GB on a first run, most of it torch."
	$(BIN)/python $(PINNED) -e '.[recipes]'
	@touch $@

$(VENV)/.dev: $(SOURCES) | $(VENV)/bin/python
	@echo "Installing into $(VENV): some minutes and up to 8 GB on a first run, most of it torch."
	$(BIN)/python $(PINNED) -e '.[dev]'
	@touch $@ $(VENV)/.recipes

install: $(VENV)/.dev  ## everything that the other targets need, in .venv

demo: $(VENV)/.recipes  ## train a small net on real digits with SGD, SGDP, AdamW and AdamP, and show what happened
	$(BIN)/tangential train digits --seeds 5 --out runs/digits
	@echo "Next, in this shell:  . $(BIN)/activate  and  tangential report runs/digits --serve"

test: $(VENV)/.dev  ## the test suite, doctests included
	$(BIN)/python -m pytest -q -n auto

test-fast: $(VENV)/.dev  ## the daily loop: the core and one path through the rest, in about two minutes
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test-floor:  ## the test suite with the oldest torch we support, in .venv-floor
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python $(INSTALL) 'torch==2.10.*' -e '.[dev]'
	.venv-floor/bin/python -m pytest -q -n auto

test-newest:  ## the test suite with the newest of every dependency, in .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(INSTALL) --upgrade -e '.[dev]'
	.venv-newest/bin/python -m pytest -q -n auto

$(TOOLS)/bin/uv:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet build cyclonedx-bom twine uv

lock: $(TOOLS)/bin/uv  ## refresh constraints.txt: the newest versions that pyproject.toml allows, for every platform
	$(TOOLS)/bin/uv pip compile pyproject.toml --extra dev --extra stacks --extra ray --extra slurm --universal --python-version 3.10 --upgrade \
	  --no-annotate --quiet --custom-compile-command "make lock" --output-file constraints.txt

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: browser lint docs test  ## everything that CI runs

fix: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## step times against the named peers, as ratios
	$(BIN)/python benchmarks/step_time.py

bench-gpu: $(VENV)/.dev  ## on a CUDA device: check the kernel, then measure it; under eight minutes
	PYTHON=$(BIN)/python benchmarks/gpu.sh

sanitize: $(VENV)/.dev  ## the kernel's tests under the address and undefined-behaviour sanitizers
	$(BIN)/python tests/sanitize.py

figures: $(VENV)/.dev browser  ## the pictures of the documents, from the toys and the demo's runs
	$(BIN)/tangential toy 2d --out runs/toys
	$(BIN)/tangential toy 3d --out runs/toys
	cp runs/toys/toy-2d.png runs/toys/toy-3d.png docs/images/
	$(BIN)/tangential train digits --seeds 5 --out runs/digits
	cp runs/digits/overview.png docs/images/digits.png
	$(BIN)/python benchmarks/screenshot.py runs/digits/report.html docs/images

browser:  ## a Chromium from the system's packages, for the browser tests, which are skipped without one
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq -y chromium; } \
	  || echo "no Chromium here, and it cannot be installed: the browser tests will be skipped"

release: $(TOOLS)/bin/uv  ## sdist and one wheel with all kernels in dist/, checked in clean environments
	rm -rf dist
	TANGENTIAL_KERNELS=all $(TOOLS)/bin/python -m build --outdir dist
	$(TOOLS)/bin/twine check --strict dist/*
	$(if $(TORCH_INDEX),UV_TORCH_BACKEND=cpu) $(TOOLS)/bin/python tests/release.py dist

peers: $(VENV)/.dev  ## what torch, timm, pytorch_optimizer and trainers ask of an optimizer, asked of ours
	$(BIN)/python -m pytest -q -n auto tests/peers

sharding: $(VENV)/.dev  ## every case of the matrices on several processes, of which the suite runs a sample
	TANGENTIAL_MATRIX=1 $(BIN)/python -m pytest -q -n auto tests/sharding

engines:  ## workers on a Ray cluster of two nodes and as jobs of submitit, in .venv-engines
	$(PYTHON) -m venv .venv-engines
	.venv-engines/bin/python $(PINNED) -e '.[dev,ray,slurm]'
	.venv-engines/bin/python -m pytest -q -rs tests/experiments/engines tests/experiments/sweep/test_queue.py

stacks:  ## run and test the example of every trainer, the heavy ones too, in .venv-stacks; rewrites docs/trainers.md
	$(PYTHON) -m venv .venv-stacks
	.venv-stacks/bin/python $(PINNED) -e '.[dev,stacks]'
	.venv-stacks/bin/python benchmarks/stacks.py
	.venv-stacks/bin/python -m pytest -q -n auto tests/stacks

parity: $(VENV)/.dev  ## rewrite docs/parity.md, docs/comparison.md and docs/migration.md from the installed peers
	$(BIN)/python -W ignore benchmarks/parity.py
	$(BIN)/python -W ignore benchmarks/behaviours.py
	$(BIN)/python -W ignore benchmarks/migration.py
