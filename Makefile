# Every target makes its own virtual environment (.venv) from nothing but Python >= 3.11 and make.
# PYTHON=python3.12 make test    chooses the interpreter; VENV=dir the place.
PYTHON ?= python3
VENV ?= .venv
PY = "$(VENV)/bin/python"
PIP = $(PY) -m pip --disable-pip-version-check install --quiet --quiet -c requirements.lock
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check corpus bench format docs clean run-env dev-env

help:
	@echo "make demo      install, partition the shipped example onto four U280, verify every tensor"
	@echo "make test      the fast tests            make test-all  the slow ones too"
	@echo "make check     ruff, mypy --strict, import-linter"
	@echo "make corpus    real models, resumable    make bench     figures of time, memory and quality"
	@echo "make docs      regenerate what is generated in docs/"
	@echo "make format    ruff format and fix       make clean     remove .venv and out/"

run-env:
	@test -x "$(VENV)/bin/python" || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fvc needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …")'
	@test -x "$(VENV)/bin/python" || $(PYTHON) -m venv "$(VENV)"
	@cmp -s pyproject.toml "$(VENV)/run.stamp" || { echo "installing fvc into $(VENV)" >&2; $(PIP) -e . && cp pyproject.toml "$(VENV)/run.stamp"; }

dev-env: run-env
	@cat pyproject.toml requirements.lock | cmp -s - "$(VENV)/dev.stamp" || { echo "installing the tools for tests and checks" >&2; $(PIP) -e '.[dev]' && cat pyproject.toml requirements.lock > "$(VENV)/dev.stamp"; }

demo: run-env
	$(PY) -m fvc partition examples/digits.onnx --devices u280x4 --calibrate examples/digits_calibration.npz --eval examples/digits_test.npz -o out/demo

test: dev-env
	$(PY) -m pytest -m "not slow" -n $(WORKERS) tests

test-all: dev-env
	$(PY) -m pytest -n $(WORKERS) tests

check: dev-env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

corpus: dev-env
	$(PY) -m benchmarks.corpus

bench: dev-env
	$(PY) -m benchmarks.bench

docs: dev-env
	$(PY) -m docs.generate

format: dev-env
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean:
	rm -rf "$(VENV)" out
