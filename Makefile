# `make demo` and `make test` do all the set-up they need on a machine with Python >= 3.10.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: help install demo test test-slow full-scale lint types docs format check bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(STAMP)  ## the project and everything needed to develop it, in .venv

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "unheard needs Python 3.10 or later; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[train,tune,tensorboard,server,audformat,hub,docs,dev]'
	touch $(STAMP)

demo: $(STAMP)  ## what the package does, in two minutes, offline; CORPUS=emodb: on a real corpus, DATA=its folder
	$(BIN)/unheard demo --out demo $(if $(CORPUS),--corpus $(CORPUS)) $(if $(DATA),--data $(DATA))

test: $(STAMP)  ## the test suite
	$(TEST) -m 'not slow'

test-slow: $(STAMP)  ## the heavy tests only; installs Ray and schemathesis
	$(PIP) -e '.[ray,fuzz]'
	$(TEST) -m slow

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy
	$(BIN)/mypy

docs: $(STAMP)  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint types docs test  ## what a change has to pass

format: $(STAMP)  ## let ruff format and repair the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## speed of features and training beside other libraries; needs an idle machine
	$(PIP) -e '.[bench]'
	$(BIN)/python -m benchmarks.features
	$(BIN)/python -m benchmarks.training.run

full-scale: $(STAMP)  ## the paper's two experiments at full size on synthetic speech; 6 GB of disk, an hour or two
	$(BIN)/python -m benchmarks.full_scale iemocap full-scale/iemocap
	$(BIN)/python -m benchmarks.full_scale mandarin full-scale/mandarin

clean:  ## everything that these targets made
	rm -rf $(VENV) demo full-scale build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
