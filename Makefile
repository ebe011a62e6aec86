# Two commands matter: `make demo` and `make test`. Both make .venv, install pinned packages and run; both may be repeated.
PYTHON ?= python3
SECONDS ?=
OUT ?= out/bench
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EDITABLE := --quiet --no-deps --no-build-isolation --editable .

.PHONY: help demo test check consumers audit bench lock clean

help:
	@echo "make demo    simulated cameras -> meshes -> live view (installs what it needs, without torch)"
	@echo "make test    everything that must hold: ruff, mypy, import contracts, tests (installs torch too)"
	@echo "make check   the same without the tests: seconds, not minutes"
	@echo "make audit   known weaknesses of what is installed, where PyPI's database can be reached"
	@echo "make bench   the figures: benchmarks/, one JSON per script in $(OUT)"
	@echo "make lock    resolve requirements/*.txt again from pyproject.toml"

demo: $(VENV)/.live
	$(BIN)/mien demo $(if $(SECONDS),--seconds $(SECONDS))

test: check consumers
	$(BIN)/python -m pytest -n 2
	-@requirements/audit.sh $(BIN)/python # told, no failure: a weakness made known today is no defect of this commit

audit: $(VENV)/.dev
	@requirements/audit.sh $(BIN)/python

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What tests open files with, Blender for instance: installed where that is possible, else its tests are skipped.
consumers: $(VENV)/.dev
	@requirements/consumers.sh $(BIN)/python

bench: $(VENV)/.dev
	@mkdir -p $(OUT)
	@set -e; for script in benchmarks/*.py; do \
	    echo "== $$script"; $(BIN)/python $$script --json | tee $(OUT)/$$(basename $$script .py).json; done

lock: $(VENV)/.dev
	$(BIN)/python requirements/lock.py

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Mien needs Python 3.11 or newer; $(PYTHON) is older. Run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv failed; on Debian: sudo apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.live: requirements/live.txt pyproject.toml requirements/system.sh | $(BIN)/python
	$(PIP) install --quiet --requirement requirements/live.txt
	$(PIP) install $(EDITABLE)
	requirements/system.sh $(BIN)/python
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.live
	$(PIP) install --quiet --requirement requirements/dev.txt
	@touch $@
