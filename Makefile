# Everything runs in one virtual environment, which is made when it is first needed:
#     make train ARGS="seed=1 trainer.max_epochs=5"
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= auto

INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
IN_VENV := $(VENV)/bin/python
PIP := $(IN_VENV) -m pip install --quiet --disable-pip-version-check --progress-bar off

.DEFAULT_GOAL := help
.PHONY: help install install-dev train test test-slow test-all lint bench docs-site validity clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  Options: ARGS="..." is handed on, VENV=$(VENV), PYTHON=$(PYTHON), WORKERS=$(WORKERS) tests at a time'

install: $(INSTALLED) ## make the environment with what training needs, or renew it after a change of dependencies

install-dev: $(INSTALLED_DEV) ## add every extra and the development tools

$(INSTALLED): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo 'cxrlab needs Python 3.11, 3.12 or 3.13, and `$(PYTHON)` is not one: $(shell $(PYTHON) --version 2>&1).'; \
	    echo 'Name another one, for example: make install PYTHON=python3.12'; exit 1; }
	@echo 'Installing cxrlab and PyTorch into $(VENV), once: 6 GB of disk, about 3 minutes (more on a slow network)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo 'Adding the extras and the development tools to $(VENV), once: 1 GB of disk, about 2 minutes'
	@$(PIP) -e ".[all,dev]"
	@touch $@

train: $(INSTALLED) ## train the paper's network; ARGS="seed=1 ..." overrides the configuration
	$(IN_VENV) train.py model=paper_cnn $(ARGS)

# As many tests at a time as there are cores, unless WORKERS says otherwise, one thread each: threads of several tests
# would wait for one another. The tests of a file stay together, since they share what was trained for them.
TESTS = $(IN_VENV) -m pytest -n $(WORKERS) --dist loadfile
test test-slow test-all: export OMP_NUM_THREADS ?= 1

test: $(INSTALLED_DEV) ## run the quick tests, before every commit; ARGS="-k audit" chooses some
	$(TESTS) -m 'not slow' $(ARGS)

test-slow: $(INSTALLED_DEV) ## run the others: real sets, several processes, kills, browsers, whole programs
	$(TESTS) -m slow $(ARGS)

test-all: $(INSTALLED_DEV) ## run every test
	$(TESTS) $(ARGS)

lint: $(INSTALLED_DEV) ## check style, formatting and types
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	$(IN_VENV) -m mypy

bench: $(INSTALLED_DEV) ## run every benchmark
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do \
	    echo "== $$script"; $(IN_VENV) $$script $(ARGS); done

docs-site: $(VENV)/.installed-docs ## build the documentation site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(IN_VENV) -m mkdocs build --strict

$(VENV)/.installed-docs: pyproject.toml | $(INSTALLED)
	@echo 'Adding what builds the documentation: 30 MB, half a minute.'
	$(PIP) -e ".[docs]"
	@touch $@

validity: $(INSTALLED_DEV) ## measure what docs/validity.md reports: hours at first; what is finished is left alone
	$(IN_VENV) docs/validity.py $(ARGS)

clean: ## remove caches and build leftovers; the environment, the data and the runs stay
	rm -rf build dist site *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
