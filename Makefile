# `make demo` and `make test` set up what they need in .venv and then run.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint measure clean

demo: .venv/ready
	$(BIN)/posteria restore --out demo

test: .venv/ready
	$(BIN)/python -m pytest

# The studies behind the tests: minutes to hours.
test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# Prints the tables of docs/measures.md.
measure: .venv/ready
	$(BIN)/python benchmarks/foundation.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "posteria needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo
