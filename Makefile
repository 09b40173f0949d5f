# batchopt: `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick smoke test-gpu gpu-day test-slurm test-faults check format submit resume \
	analyze adopt bench bench-arms bench-accumulation bench-launches bench-packing bench-monitor bench-neighbour docs \
	docs-reference clean package test-oldest

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
RUN ?= batch=05a,05b,05c
TORCH_INDEX ?=

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install everything; TORCH_INDEX=URL for another build of torch

# Another index than the last is another build of torch, which pip would take for the same version.
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(shell cat $(STAMP) 2>/dev/null))
.PHONY: $(STAMP)
endif
endif

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"batchopt needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}; name another with make PYTHON=/path/to/python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PY) -m pip install --quiet --constraint constraints.txt --force-reinstall --no-deps --index-url '$(TORCH_INDEX)' torch)
	$(PY) -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') --editable '.[ko,dev]'
	@$(if $(TORCH_INDEX),echo '$(TORCH_INDEX)' >,touch) $@

demo: setup ## the three presets on the generated sample, then the report
	$(PY) -m batchopt.train -m batch=05a,05b,05c
	$(PY) -m analysis

test: setup ## run every test that can run here
	$(PY) -m pytest --numprocesses=auto --dist=loadfile

test-quick: setup ## the tests that start no training, for the inner loop
	$(PY) -m pytest --numprocesses=auto --dist=loadfile -m 'not slow and not faults' \
		tests/request tests/step tests/data tests/slurm tests/machine tests/test_imports.py

smoke: setup ## run every command of the READMEs and docs/ as a person types it: minutes
	$(PY) tests/smoke/run.py

test-gpu: setup ## what only an NVIDIA GPU can show (docs/gpu-checklist.md)
	$(PY) -m pytest -m gpu -s tests/gpu

gpu-day: setup ## the first day on a GPU: the doctor, all of test-gpu, figures in pairs: 25 minutes
	$(PY) -m batchopt.doctor
	$(PY) -m pytest -m "gpu or gpu_day" -s tests/gpu

test-slurm: setup ## bring a SLURM up on this machine (as root), run sweeps on it, take it down
	$(PY) -m pytest tests/cluster

test-faults: setup ## provoke every ending and kill at random: minutes; STORM_KILLS=100
	$(PY) -m pytest -m faults tests/faults

endings: setup ## the same endings, written to docs/endings.md
	$(PY) -m pytest -m faults tests/faults/test_endings.py --endings=docs/endings.md

check: setup ## format, lint and types, without changing anything
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: setup ## mend format and what lint can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: setup ## build the site into outputs/site, with every warning an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

docs-reference: setup ## write the pages that come from the code: docs/reference, tables of README.md
	$(PY) docs/generate.py

submit: setup ## queue a sweep on SLURM and return; RUN='batch=05a,05b,05c hydra.launcher.partition=gpu'
	$(PY) -m batchopt.train -m hydra/launcher=slurm hydra.launcher.wait=false $(RUN)

resume: setup ## finish the newest sweep, or SWEEP=multirun/DATE/TIME
	$(PY) -m batchopt.resume $(SWEEP)

analyze: setup ## analyse the newest sweep, or SWEEP=multirun/DATE/TIME
	$(PY) -m analysis $(if $(SWEEP),'sweep=$(subst $(eval) ,$(comma),$(strip $(SWEEP)))')

adopt: setup ## write the best pair as conf/batch/best.yaml, for batch=best; AIM=least_memory ...
	$(PY) -m analysis adopt=$(or $(AIM),fastest) $(if $(SWEEP),'sweep=$(subst $(eval) ,$(comma),$(strip $(SWEEP)))')

bench: setup ## against the plain Trainer, into docs/benchmarks.md; BENCH='--train FILE --validation FILE'
	$(PY) benchmarks/bench.py $(BENCH)

bench-arms: setup ## against every sampling of the stock Trainer; BENCH='--presets 05a --vocabularies 32000'
	$(PY) benchmarks/arms.py $(BENCH)

bench-accumulation: setup ## what the stock accumulation does to a training: loss and ROUGE by step
	$(PY) benchmarks/accumulation.py $(BENCH)

bench-launches: setup ## operators, waits, copied and filled bytes of a step; DATA='data=files ...'
	$(PY) benchmarks/launches.py $(DATA)

bench-packing: setup ## preset x packing as ratios; DATA='data=files data.train_file=...'
	$(PY) benchmarks/packing.py $(DATA)

bench-monitor: setup ## what sampling costs a training, as a ratio
	$(PY) benchmarks/monitor.py

bench-neighbour: setup ## what a busy process of another session costs a run on the CPU; BENCH='--turns 3'
	$(PY) benchmarks/neighbour.py $(BENCH)

DIST := dist

package: setup ## build the sdist and the wheel into dist/ and check them; TAG=v0.1.0 must be the version
	@version=$$($(PY) -c 'import batchopt; print(batchopt.__version__)'); \
	case "$(TAG)" in ""|"v$$version") ;; *) echo "TAG is $(TAG); it must be v$$version, the version in src/batchopt/__init__.py"; exit 2;; esac
	rm -rf $(DIST)
	$(PY) -m build --no-isolation --outdir $(DIST)
	$(PY) -m twine check --strict $(DIST)/*
	$(VENV)/bin/check-wheel-contents $(DIST)/*.whl

OLDEST := .venv-oldest
CORE := tests/step/test_exactness.py tests/step/test_decoder_only.py tests/training/test_trainer.py \
	tests/training/test_build.py tests/training/test_models.py tests/request/test_transformers_names.py \
	tests/library/test_trainers.py tests/sweeps/test_resume.py tests/verify/test_verify.py

test-oldest: ## the core tests with the oldest versions that pyproject.toml allows; UV_TORCH_BACKEND=cpu
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --editable '.[ko,test]'
	$(OLDEST)/bin/python -m pytest --numprocesses=auto --dist=loadfile $(CORE)

clean: ## remove .venv and what was cached; runs and reports stay
	rm -rf $(VENV) $(OLDEST) dist outputs/cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src analysis tests -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,
