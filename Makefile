SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The Python that the environment is made from: 3.11 or newer.
PYTHON ?= python3
# More arguments for pytest or the benchmarks: make test ARGS="-x -k broker"
ARGS ?=
# Processes that run tests side by side. They mostly wait, so more than there are processors.
WORKERS ?= 4
# How long all trials of `make chaos` may take together.
MINUTES ?= 60
# How many inputs the fuzzer of `make attack` tries.
INPUTS ?= 1000000

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .build/peers
# Some machines say that Python is to keep no bytecode. Each of the hundreds of processes that tests start would compile all anew.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help venv demo lab test lint format protos sim sim-long sim-strategies chaos attack audit bench bench-scale bench-micro bench-peers wheel clean

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

venv: $(READY) ## Create .venv with everything needed to run, test and develop (at once when up to date)
	@:

$(READY): pyproject.toml easyremote/_version.py
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "needs Python 3.11 or newer: make venv PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || \
	    { echo "needs Python's venv module; on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@"$(BIN)/python" -c '' 2>/dev/null || { rm -rf "$(VENV)"; "$(PYTHON)" -m venv "$(VENV)"; }
	@echo "installing into $(VENV); the first time takes about a minute"
	@"$(BIN)/python" -m pip install -qq -e '.[dev,notebook,demo]'
	@touch "$@"

demo: venv ## Run the first tutorial on this machine, without a GPU, and show what came out
	@"$(BIN)/python" notebooks/run_demo.py

lab: venv ## Open the first tutorial in JupyterLab
	@"$(BIN)/jupyter" lab $(if $(filter 0,$(shell id -u)),--allow-root) \
	    --LabApp.default_url=/lab/tree/notebooks/01_first_call.ipynb

test: lint ## Run everything: lint and all tests, browser and notebooks included
	@scripts/install-browser
	@scripts/install-ipykernel6 $(BIN)/python
	@scripts/run-tests "$(BIN)/pytest" -n $(WORKERS) $(ARGS)

lint: venv ## Check style, types, layers, and that the generated code is what the protos give
	@"$(BIN)/ruff" check
	@"$(BIN)/ruff" format --check
	@"$(BIN)/pyright" --warnings
	@"$(BIN)/lint-imports" --no-logo
	@"$(BIN)/bandit" -q -c pyproject.toml -r easyremote 2>/dev/null
	@"$(BIN)/python" scripts/generate-protos --check

format: venv ## Format the code and mend what can be mended by itself
	@"$(BIN)/ruff" check --fix-only
	@"$(BIN)/ruff" format

protos: venv ## Generate easyremote/wire/v1 from protos/
	@"$(BIN)/python" scripts/generate-protos

sim: venv ## Run the simulations alone
	@"$(BIN)/pytest" tests/sim $(ARGS)

sim-long: venv ## Simulate 200,000 worlds on all processors; stops and goes on again (SIM_SEEDS=20000 ARGS="--minutes 10")
	@"$(BIN)/python" -m tests.sim.long $(ARGS)

sim-strategies: venv ## Judge the strategies in virtual time beside what nobody could do better
	@"$(BIN)/python" -m benchmarks.strategies $(ARGS)

chaos: venv ## Try to break the promises with real processes; MINUTES=60 is a full run
	@"$(BIN)/python" -m tests.chaos --minutes $(MINUTES) $(ARGS)

attack: venv ## Attack it as every threat in docs/security.md does, and fuzz it with INPUTS=1000000 inputs
	@FUZZ_INPUTS=$(INPUTS) "$(BIN)/pytest" -m attack $(ARGS)

audit: venv ## Ask whether a vulnerability is known in anything that is installed here (needs the network)
	@"$(BIN)/pip-audit" --skip-editable --progress-spinner off

bench: venv ## Measure EasyRemote beside the bare relays that limit it
	@"$(BIN)/python" -m benchmarks.run $(ARGS)

bench-peers: venv $(PEERS)/.ready ## Measure it beside Ray, Dask, ipyparallel, nats, Pyro5, rpyc, easyremote 2.0.2
	@"$(BIN)/python" -m benchmarks.run --peers $(ARGS)

$(PEERS)/.ready: benchmarks/peers/requirements.txt benchmarks/peers/requirements-old.txt
	@echo "installing the peers into $(PEERS); the first time takes a minute or two"
	@"$(BIN)/python" -m venv "$(PEERS)/venv"
	@"$(PEERS)/venv/bin/python" -m pip install -qq -r benchmarks/peers/requirements.txt
	@"$(BIN)/python" -m venv "$(PEERS)/old"
	@"$(PEERS)/old/bin/python" -m pip install -qq -r benchmarks/peers/requirements-old.txt
	@touch "$@"

bench-scale: venv ## Measure the gateway with up to 1,000 nodes and 100 clients
	@"$(BIN)/python" -m benchmarks.scale $(ARGS)

bench-micro: venv ## Measure one step of each hot function
	@"$(BIN)/python" -m benchmarks.micro $(ARGS)

wheel: venv ## Build the wheel into dist/
	@rm -f dist/easyremote-*.whl
	@"$(BIN)/python" -m build -qq --wheel --outdir dist .
	@ls dist/easyremote-*.whl

clean: ## Remove what builds and tests leave behind (.venv stays)
	@rm -rf .build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	@find . -path "./$(VENV)" -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0r rm -rf
