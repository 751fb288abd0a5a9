PYTHON ?= python3.11
MODEL ?=
TEXT ?= 1
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-all bench gpu clean

help:  ## Print this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-9s %s\n", $$1, $$2 }'

setup: $(INSTALLED)  ## Make .venv and install the project with its tools

# torch first: whatever build of that version fits the machine, and nothing later replaces it.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,demo]'
	@touch $@

demo: $(INSTALLED)  ## Compare methods on made pictures, then on text (MODEL=hub id or path, TEXT=0: none)
	$(BIN)/contralign demo $(if $(MODEL),--model '$(MODEL)') $(if $(filter 0,$(TEXT)),--no-text)

check: $(INSTALLED)  ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(INSTALLED)  ## The tests that take seconds
	$(BIN)/pytest

test-all: $(INSTALLED)  ## Every test that this machine can run
	$(BIN)/pytest -m ''

bench: $(INSTALLED)  ## Speed and memory of decoding and training, as ratios
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/flops.py
	$(BIN)/python benchmarks/training.py --ratios 4:1
	$(BIN)/python benchmarks/online.py --shape body

gpu: $(INSTALLED)  ## The tests and benchmarks that need a CUDA device
	$(BIN)/pytest -rs -m gpu
	$(BIN)/python benchmarks/gpu.py

clean:  ## Remove .venv and what tools left behind; results in runs/ stay
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
