# One command each. The first target that needs it makes .venv; nothing else has to be set up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
KERNEL := $(wildcard src/tangential/kernels/c/*) src/tangential/kernels/build.py

.PHONY: demo test lint check fix docs bench bench-gpu figures sanitize parity browser

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.recipes: pyproject.toml hatch_build.py $(KERNEL) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[recipes]'
	@touch $@

$(VENV)/.dev: pyproject.toml hatch_build.py $(KERNEL) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.recipes

demo: $(VENV)/.recipes  ## train a small net on real digits with SGD, SGDP, AdamW and AdamP, and show what happened
	$(BIN)/tangential train digits --seeds 5 --out runs/digits

test: $(VENV)/.dev  ## the test suite, doctests included
	$(BIN)/python -m pytest -q -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

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

parity: $(VENV)/.dev  ## rewrite docs/parity.md and docs/comparison.md from the installed peers
	$(BIN)/python -W ignore benchmarks/parity.py
	$(BIN)/python -W ignore benchmarks/behaviours.py
