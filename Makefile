# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
# Both keep one environment in .venv, and add to it only when its definition changes.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
DEMO_READY := .venv/.demo
READY := .venv/.installed
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test test-all coverage floors lint types docs bench bench-quick gpu clean env

demo: $(DEMO_READY)
	mkdir -p build && rm -f build/demo.html
	$(BIN)/tensorstate demo --html build/demo.html $(ARGS)

# Several processes side by side; tests/__main__.py says how.
test: $(READY)
	$(BIN)/python -m tests $(ARGS)

# With what takes long: every kill, every power cut, every variant of the CUDA kernels, ...
test-all: $(READY)
	$(BIN)/python -m tests --all $(ARGS)

# What .pre-commit-config.yaml runs before a commit, on all files.
lint: $(READY)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m codespell_lib
	$(BIN)/python -m validate_pyproject pyproject.toml

# Of what runs in `make test` but for what measures time, which coverage slows down. About twice as long.
coverage: $(READY)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -m "not long and not serial" $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# The core of the suite with the oldest dependencies that pyproject.toml allows: .ci/floors --help.
floors:
	$(PYTHON) .ci/floors $(ARGS)

types: $(READY)
	.ci/precise_types

# The documentation site, in build/site: its first page is index.html. A warning, such as a link that leads
# nowhere, is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo build/site/index.html

BENCH := $(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only --benchmark-columns=median

bench: $(READY)
	$(BENCH) --save benchmarks/results $(ARGS)
	$(BIN)/python -m benchmarks.harness.tables

bench-quick: $(READY)
	$(BENCH) -m quick $(ARGS)

# On a machine with a CUDA GPU, whose own Python holds CuPy, torch, Numba, pytest, hypothesis and
# setuptools (77 or newer); pytest-xdist, numba-cuda and JAX are used where they are. Nothing is fetched. Stages
# (tests, speed, training, sanitizers) write benchmarks/results/gpu_*.json: make gpu ARGS="tests speed"
gpu:
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(PYTHON) -m benchmarks.gpu $(ARGS)

env: $(READY)

$(DEMO_READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PIP) --editable '.[demo]'
	touch $@

# With what tests and benchmarks need: Keras, TensorFlow, JAX, CUDA's compiler, rivals.
$(READY): $(DEMO_READY)
	$(PIP) --editable '.[demo]' --group dev
	touch $@

# Numba's disk cache (*.nbi, *.nbc) lies in __pycache__: it goes too. The environment stays.
clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage .coverage.*
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +
