# Everything a new user needs: `make demo`, `make test`. Both set themselves up.
#
#   PYTHON       the interpreter to build .venv from (3.11 or newer)
#   TORCH_INDEX  a package index to take torch from, e.g. https://download.pytorch.org/whl/cpu
#   SECONDS      with `make demo`: run headless for that long and write out/demo.mp4

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench clean

help:
	@echo "make demo             serve the demo on http://127.0.0.1:8080"
	@echo "make demo SECONDS=20  the same without a browser: out/demo.mp4 and the latency table"
	@echo "make test             the whole test suite"
	@echo "make check            ruff, mypy, import-linter"
	@echo "make bench            the latency benchmark (out/latency.html)"
	@echo "make setup            only the set-up (.venv, packages, face-model files); runs by itself"

setup: $(STAMP)

$(STAMP): pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" VENV="$(VENV)" bash scripts/setup.sh
	@touch $@

demo: setup
ifdef SECONDS
	$(BIN)/visavis demo --seconds $(SECONDS) --out out/demo.mp4
else
	$(BIN)/visavis serve
endif

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) out build *.egg-info .mypy_cache .ruff_cache .pytest_cache
