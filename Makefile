# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)

# A process that dies ends the run at once. Files keep the order of tests/conftest.py: the longest first.
PYTEST := $(BIN)/pytest -n 2 --max-worker-restart 0 --no-loadscope-reorder

.PHONY: demo test test-slow check clean

demo: .venv/installed
	$(BIN)/panderm demo --out demo --overwrite

# What is compiled once serves every process that a test starts, whatever the shell says of byte code.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/installed-dev check
	$(PYTEST) --dist loadfile -m "not slow"

test-slow: .venv/installed-dev
	$(PYTEST) -m slow

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# uv where it is at hand (seconds), plain pip elsewhere (minutes).
.venv/bin/python:
ifdef UV
	uv venv --quiet --clear --python $(PYTHON) .venv
else
	$(PYTHON) -m venv .venv
endif

.venv/installed: .venv/bin/python pyproject.toml
ifdef UV
	uv pip install --quiet --python $(BIN)/python --editable .
else
	$(BIN)/python -m pip install --quiet --editable .
endif
	@touch $@

.venv/installed-dev: .venv/installed
ifdef UV
	uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
else
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
endif
	@touch $@

clean:
	rm -rf .venv demo build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
