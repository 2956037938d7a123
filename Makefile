# The commands of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Everything a command leaves behind stays in the checkout.
STATE := $(CURDIR)/.state
export PIANOFARM_STATE_DIR ?= $(STATE)
# Downloads too; several checkouts may share a folder: UV_CACHE_DIR=~/.cache/uv make ...
export UV_CACHE_DIR ?= $(STATE)/uv
export TF_CPP_MIN_LOG_LEVEL ?= 3
PYTEST_ARGS ?=

.PHONY: help
help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

# --- setting up ---------------------------------------------------------------------------------------------------
# `python3 -m venv` needs ensurepip, which Debian keeps in python3-venv; where only pip is there, pip fills the environment.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pianofarm needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --version >/dev/null 2>&1; } \
	  || { rm -rf $(VENV); echo "python3 cannot make a virtual environment: install python3-venv (Debian, Ubuntu) or pip"; exit 2; }
	@if [ -x $(BIN)/pip ]; then $(BIN)/pip install --quiet --disable-pip-version-check --no-cache-dir uv; \
	  else $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-cache-dir uv; fi

$(VENV)/.local: requirements/local.txt pyproject.toml | $(BIN)/uv
	@echo "setting up $(VENV) for the local farm ..."
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes --no-deps -r requirements/local.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.local | $(BIN)/uv
	@echo "setting up $(VENV) for tests ..."
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

.PHONY: setup
setup: $(VENV)/.dev  ## the virtual environment with everything, from hashed requirement files

# --- what a newcomer runs -----------------------------------------------------------------------------------------
.PHONY: demo
demo: $(VENV)/.local  ## render the pieces in examples/ through a whole farm on this machine
	@$(BIN)/pianofarm demo

.PHONY: test
# Unit tests on two processes; the others start processes and servers of their own and wait for most of their time.
test: $(VENV)/.dev check  ## all checks and tests, with real servers that they start themselves
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit $(PYTEST_ARGS)
	@$(BIN)/python -m pytest --ignore tests/unit $(PYTEST_ARGS)

# --- what a developer runs ----------------------------------------------------------------------------------------
.PHONY: check
check: $(VENV)/.dev  ## ruff, mypy strict, the arrows between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

.PHONY: lock
# The GPU file is resolved without the overrides: one of them (tensorflow) would drop the [and-cuda] extra.
lock: | $(BIN)/uv  ## resolve the requirement files again from pyproject.toml
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	compile="$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate"; \
	$$compile --extra local --extra train --extra bench --extra jax --group dev --group oracle -o requirements/dev.txt && \
	$$compile -c requirements/dev.txt -o requirements/client.txt && \
	$$compile --extra worker --extra jax -c requirements/dev.txt -o requirements/worker.txt && \
	$$compile --no-config --extra worker-gpu -c requirements/dev.txt -o requirements/worker-gpu.txt && \
	$$compile --extra local --extra jax -c requirements/dev.txt -o requirements/local.txt

.PHONY: clean
clean:  ## remove everything the commands made, the environment and the demo's state included
	@[ ! -x $(BIN)/pianofarm ] || $(BIN)/pianofarm down >/dev/null 2>&1 || true
	@rm -rf $(VENV) .venv-ops .venv-fuzz .venv-ears $(STATE) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build

# --- what operators and measurers run -----------------------------------------------------------------------------
include make/*.mk
