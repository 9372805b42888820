# Every target creates .venv and installs its dependencies, pinned by constraints.txt.
PYTHON ?= python3
# The public index of torch's CPU builds: without it pip may download gigabytes of CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
RAY := .venv-ray
CLIENTS := .venv-clients
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Four processes: half of a test's time it waits for a service, a browser or a job.
PYTEST = -m pytest -n 4 --dist worksteal
RUN = $(BIN)/python

.PHONY: help serve train report clients test test-all coverage lint check bench bench-peers \
	drills docker-test ray
.DEFAULT_GOAL := help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

serve: $(VENV)/serving ## serve on http://127.0.0.1:8000 (PORT, DIGITS_WEIGHTS, WEB_CONCURRENCY)
	@exec $(BIN)/gunicorn -c service/gunicorn.conf.py "service.app:create_app()"

train: $(VENV)/training ## train on MNIST into digits.safetensors (flags: ARGS="--recipe article")
	@exec $(BIN)/python -m training $(ARGS)

test: $(VENV)/development ## run the tests, without the slow ones (flags: ARGS="-k images")
	@$(RUN) $(PYTEST) -m "not slow and not container" $(ARGS)

test-all: $(VENV)/development ## run all tests, the slow ones included
	@$(RUN) $(PYTEST) $(ARGS)

clients: $(CLIENTS)/installed ## install the clients (tritonclient, ...) that tests use if they are there

coverage: $(VENV)/development ## run all tests and report the line coverage of each room
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory test-all RUN="$(BIN)/coverage run"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/python -m benchmarks.room_coverage

lint: $(VENV)/development ## check format, style, types and the sizes of files and functions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m benchmarks.house --check

format: $(VENV)/development ## format the code
	@$(BIN)/ruff format .

check: lint test ## lint and test

report: $(VENV)/training ## write report.html and a model card (to compare runs: ARGS="ONE TWO")
	@$(BIN)/python -m training report $(ARGS)

bench: $(VENV)/training ## measure the figures of docs/benchmarks.md (needs wrk: apt-get install wrk)
	$(BIN)/python -m benchmarks.seeds
	$(BIN)/python -m benchmarks.robustness
	$(BIN)/python -m benchmarks.binary
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.resume
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.bulk
	$(BIN)/python -m benchmarks.footprint
	$(BIN)/python -m benchmarks.steadiness

bench-peers: $(VENV)/training $(PEERS)/installed ## compare with BentoML, LitServe and OpenCV
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.reading

drills: $(VENV)/training ## count lost requests during stops, reloads, kills and attacks
	$(BIN)/python -m benchmarks.drills
	$(BIN)/python -m benchmarks.slow_clients
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.mixed
	$(BIN)/python -m benchmarks.overhead

ray: $(RAY)/installed ## install Ray for examples/ray_classify.py, and the tests of it

docker-test: $(VENV)/development ## operate the images with compose, Swarm and systemd
	$(BIN)/python -m pytest -m container

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "digits needs Python 3.11 or later: make PYTHON=python3.12")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/serving: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing the dependencies of the service"
	@$(PIP) --editable .
	@touch $@

# torch is installed in a step of its own: if its index does not answer, pip gives up at
# once and uses the other indexes.
$(VENV)/training: $(VENV)/serving
	@echo "installing the dependencies of training"
	@$(PIP) --extra-index-url $(TORCH_INDEX) --retries 0 --timeout 10 torch
	@$(PIP) --editable '.[training]'
	@touch $@

$(VENV)/development: $(VENV)/training
	@echo "installing the dependencies of the tests"
	@$(PIP) --editable '.[dev]'
	@touch $@

# An environment of their own: none of them is a dependency of the service or its tests.
$(CLIENTS)/installed: tests/clients/requirements.txt
	@echo "installing the clients"
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# An environment of their own: their many dependencies may conflict with those of .venv.
$(PEERS)/installed: benchmarks/peers/requirements.txt
	@echo "installing the peers"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# The packages of a Ray worker; the service itself is found in this folder.
$(RAY)/installed: examples/requirements.txt
	@echo "installing Ray"
	@$(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@echo "$(CURDIR)" >"$$($(RAY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/digits.pth"
	@touch $@
