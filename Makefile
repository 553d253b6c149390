# Two commands: `make reproduce` and `make test`. Each sets itself up on first use; nothing but Python 3.11 is needed.
#
#   make reproduce                                        every study at scale laptop, then the atlas
#   make reproduce STUDIES="deep_linear" SCALE=smoke CORES=4
#   make reproduce PROFILE=workflow/profiles/slurm SCALE=paper      on a SLURM cluster (docs/slurm.md)
#   make why                                              what would run now, and what changed
#   make forecast SCALE=paper                             time, memory, disk and GPU-hours, before anything starts
#   make bench                                            ensembles against networks trained one by one
#   make pins                                             exact versions again, after an edit of envs/packages.toml
#   make test-conda                                       every study at scale smoke in its conda environments
#   make new-study NAME=my_study                          a study that works, with marks where to fill in

PYTHON ?= python3.11
VENV ?= .venv
CORES ?= all
SCALE ?=
STUDIES ?=
PROFILE ?=
ARGS ?=
UPGRADE ?=

BIN := $(abspath $(VENV))/bin
export PYTHONPATH := $(abspath workflow)$(if $(PYTHONPATH),:$(PYTHONPATH))
CONFIG := $(if $(SCALE),scale=$(SCALE)) $(if $(STUDIES),studies="$(STUDIES)")
SNAKEMAKE_ARGS := --cores $(CORES) $(if $(PROFILE),--profile $(PROFILE)) $(if $(strip $(CONFIG)),--config $(CONFIG)) $(ARGS)

.PHONY: reproduce why forecast test test-all test-cluster test-conda bench pins conda-pins new-study schemas format clean help

reproduce: $(VENV)/.ready
	$(BIN)/python -m ontogeny.reproduce $(SNAKEMAKE_ARGS)

why: $(VENV)/.ready
	$(BIN)/python -m ontogeny.why $(SNAKEMAKE_ARGS)

forecast: $(VENV)/.ready
	$(BIN)/python -m ontogeny.budget $(CONFIG)

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m "not slow and not cluster and not conda" $(ARGS)

test-all: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m "not cluster and not conda" $(ARGS)

test-cluster: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m cluster -n 0 $(ARGS)

test-conda: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m conda -n 0 tests/conda $(ARGS)

# One list of direct requirements -> requirements*.txt and envs/*.yaml, together
pins: $(VENV)/.ready
	$(BIN)/python -m ontogeny.pins $(if $(UPGRADE),--upgrade $(UPGRADE))

# Explicit lists of conda packages for this platform; needs conda and its channels
conda-pins: $(VENV)/.ready-dev
	$(BIN)/snakedeploy pin-conda-envs --conda-frontend conda --warn-on-error envs/*.yaml

bench: $(VENV)/.ready
	$(BIN)/python -m ontogeny.bench $(STUDIES)

new-study: $(VENV)/.ready
	$(BIN)/python -m ontogeny.scaffold $(NAME)

schemas: $(VENV)/.ready
	$(BIN)/python -m ontogeny.schemas

format: $(VENV)/.ready-dev
	$(BIN)/ruff format workflow tests
	$(BIN)/ruff check --fix workflow tests
	$(BIN)/snakefmt Snakefile workflow/Snakefile rules

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf results .snakemake

help:
	@sed -n 's/^# \{0,1\}//p' Makefile
