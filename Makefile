# batchopt: `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format analyze adopt bench-packing bench-analysis clean

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"batchopt needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}; name another with make PYTHON=/path/to/python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[ko,dev]'
	@touch $@

demo: setup ## the three presets on the generated sample, then the report
	$(PY) -m batchopt.train -m batch=05a,05b,05c
	$(PY) -m analysis

test: setup ## run every test that can run here
	$(PY) -m pytest

check: setup ## format, lint and types, without changing anything
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: setup ## mend format and what lint can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

analyze: setup ## analyse the newest sweep, or SWEEP=multirun/DATE/TIME
	$(PY) -m analysis $(if $(SWEEP),'sweep=$(subst $(eval) ,$(comma),$(strip $(SWEEP)))')

adopt: setup ## write the best pair as conf/batch/best.yaml, for batch=best; AIM=least_memory ...
	$(PY) -m analysis adopt=$(or $(AIM),fastest) $(if $(SWEEP),'sweep=$(subst $(eval) ,$(comma),$(strip $(SWEEP)))')

bench-packing: setup ## preset x packing as ratios; DATA='data=files data.train_file=...'
	$(PY) benchmarks/packing.py $(DATA)

bench-analysis: setup ## time the analysis of 10,000 runs
	$(PY) benchmarks/analysis.py

clean: ## remove .venv and what was cached; runs and reports stay
	rm -rf $(VENV) outputs/cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src analysis tests -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,
