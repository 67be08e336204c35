# make alone lists what can be made.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
CORES ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)))')
STUDY ?= demo

.PHONY: help demo evaluate fetch publish nnunet extras test test-all test-ci test-long lint format bench reference docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Installed once, and again when the list of versions changes.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: .venv/installed ## run the whole chain on the built-in cohort
	.venv/bin/snakemake --cores $(CORES) --config "study=$(STUDY)"
	@echo
	@echo "Look at:  results/$(STUDY)/report.html"
	@echo "          results/$(STUDY)/figures/"

evaluate: .venv/installed ## compare three made folders of predictions, without training
	.venv/bin/python resources/evaluate/make_predictions.py results/made_predictions
	.venv/bin/segstudy run results/made_predictions/evaluate.yaml --cores $(CORES)
	@echo
	@echo "Look at:  results/evaluate/report.html"

fetch: .venv/installed ## fetch the data of a study, where there is a network: make fetch STUDY=hippocampus
	.venv/bin/snakemake download_all --cores 1 --config "study=$(STUDY)"

publish: .venv/installed ## zip a finished STUDY for the paper; OPTIONS="--with-images --anonymous"
	.venv/bin/snakemake --cores $(CORES) --config "study=$(STUDY)" package="$(OPTIONS)" -- publish_package

nnunet: .venv/installed ## add nnU-Net to .venv, for studies with trainer: nnunet
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock --requirement requirements-nnunet.lock

extras: .venv/installed ## add to .venv what serving, ONNX and TensorBoard need
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock --requirement requirements-extras.lock

# Two files at a time, since a file's tests share a finished study, in the order of tests/conftest.py.
PYTEST = .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

test: .venv/installed ## run the tests that take minutes, two at a time
	$(PYTEST) -m "not long and not slurm"

test-long: .venv/installed ## run the other tests: whole studies, kills, nnU-Net, benchmarks; SLURM by itself
	$(PYTEST) -m "long and not slurm"
	.venv/bin/python -m pytest -m slurm

test-ci: .venv/installed ## run of the long tests what CI runs: printed commands, kills, reruns, a study by SLURM
	$(PYTEST) -m "long and not slurm" tests/failures tests/workflow/test_commands.py tests/workflow/test_walks.py tests/workflow/test_rerun.py
	.venv/bin/python -m pytest tests/slurm/test_slurm_study.py

test-all: test test-long ## run all tests: before a release

lint: .venv/installed ## check the style of code and rules, and spelling
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell *.md .github Makefile Snakefile benchmarks config docs profiles resources results/README.md workflow
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/snakemake --lint

format: .venv/installed ## put code and rules into the house's form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	.venv/bin/snakefmt Snakefile workflow

bench: .venv/installed ## measure side by side with other tools
	@status=0; for file in benchmarks/[a-z]*.py; do echo "== $$file"; .venv/bin/python $$file || status=1; done; exit $$status

reference: .venv/installed ## write config/README.md and the schema from the types
	.venv/bin/segstudy study --reference > config/README.md
	.venv/bin/segstudy study --schema > config/study.schema.json

docs: .venv/installed ## build the documentation in docs/_build
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock --requirement requirements-docs.lock
	.venv/bin/sphinx-build -W --quiet -b html docs docs/_build
	@.venv/bin/python tests/documents.py
	@echo "Look at:  docs/_build/index.html"

lock: .venv/installed ## write requirements.lock from what is installed
	.venv/bin/pip freeze --exclude-editable --exclude segstudy | sed 's/+cpu//' > requirements.lock

clean: ## remove results, caches and the environment
	find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	rm -rf docs/_build docs/figures .snakemake .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
