# Two commands for a fresh machine: `make detect` and `make test`. `make detect WEIGHTS=best.onnx SOURCE=photos/` is for your own.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: detect test test-fast lint type docs

# Graphs, such as the one of the default weights, need a fraction of the packages; other weights need PyTorch.
GRAPH := $(if $(WEIGHTS),$(filter %.onnx,$(WEIGHTS)),$(wildcard weights/*.onnx))

detect: $(if $(GRAPH),.venv/.detect,.venv/.runtime)
	$(BIN)/python detect.py $(SOURCE) $(if $(WEIGHTS),--weights $(WEIGHTS))

# Bytecode is kept, whatever the environment says: without it every process compiles the tests and the package again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Two processes with one thread each: the networks in the tests are too small for more.
test: .venv/.dev
	$(MAKE) -j 2 lint type
	$(PYTEST)

# Without the tests that train, convert, start processes or take a quarter of a second.
test-fast: .venv/.dev
	$(PYTEST) -m "not slow" -q

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

type: .venv/.dev
	$(BIN)/mypy

# The site, into site/; a broken link, a page without a place in the navigation, or a wrong docstring is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/.detect: requirements-detect.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-detect.txt
	touch $@

# opencv-python comes last: albumentations asks for the headless build of the same version, which would lie over it.
.venv/.runtime: requirements.txt requirements-detect.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $$(grep '^opencv-python==' requirements-detect.txt)
	touch $@

.venv/.dev: .venv/.runtime pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

.venv/.docs: .venv/.runtime pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@
