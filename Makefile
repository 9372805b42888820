# Every verb makes .venv and installs what it needs, pinned by constraints.txt.
PYTHON ?= python3
# the public index of torch's CPU builds: without it pip may bring gigabytes of CUDA
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help serve train report test lint check bench bench-peers drills docker-test
.DEFAULT_GOAL := help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

serve: $(VENV)/serving ## answer on http://127.0.0.1:8000 (PORT, DIGITS_WEIGHTS, WEB_CONCURRENCY)
	@$(BIN)/gunicorn -c service/gunicorn.conf.py "service.app:create_app()"

train: $(VENV)/training ## train on MNIST into digits.safetensors (flags: ARGS="--recipe article")
	@$(BIN)/python -m training $(ARGS)

test: $(VENV)/development ## run the tests (flags: ARGS="-k images")
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/development ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check: lint test ## all of these

report: $(VENV)/training ## write report.html and a model card (to compare: ARGS="ONE TWO")
	@$(BIN)/python -m training report $(ARGS)

bench: $(VENV)/training ## the figures of the README (the load is wrk: apt-get install wrk)
	$(BIN)/python -m benchmarks.seeds
	$(BIN)/python -m benchmarks.robustness
	$(BIN)/python -m benchmarks.binary
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.resume
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.costs
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.bulk
	$(BIN)/python -m benchmarks.footprint

bench-peers: $(VENV)/training $(PEERS)/installed ## the service beside BentoML and LitServe
	$(BIN)/python -m benchmarks.serving

drills: $(VENV)/training ## what clients lose at stops, reloads, kills, attacks; what watching costs
	$(BIN)/python -m benchmarks.drills
	$(BIN)/python -m benchmarks.slow_clients
	$(BIN)/python -m benchmarks.mixed
	$(BIN)/python -m benchmarks.overhead

docker-test: $(VENV)/development ## build both images, run the stack, train, stop
	$(BIN)/python -m pytest -m container

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "digits needs Python 3.11 or later: make PYTHON=python3.12")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/serving: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing what serving needs"
	@$(PIP) --editable .
	@touch $@

# torch in a step of its own: an index that does not answer is given up at once, and pip
# goes on with what the others have
$(VENV)/training: $(VENV)/serving
	@echo "installing what training needs"
	@$(PIP) --extra-index-url $(TORCH_INDEX) --retries 0 --timeout 10 torch
	@$(PIP) --editable '.[training]'
	@touch $@

$(VENV)/development: $(VENV)/training
	@echo "installing what the tests need"
	@$(PIP) --editable '.[dev]'
	@touch $@

# apart from .venv, with which their many dependencies need not agree
$(PEERS)/installed: benchmarks/peers/requirements.txt
	@echo "installing the peers"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
