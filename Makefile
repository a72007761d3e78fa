# `make demo` and `make test` do all the set-up they need on a machine with Python >= 3.10.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow full-scale check lint types format bench clean

install: $(STAMP)  ## the project and everything needed to develop it, in .venv

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "unheard needs Python 3.10 or later; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,tensorboard,server,dev]'
	touch $(STAMP)

demo: $(STAMP)  ## the main job on invented voices, in minutes
	$(BIN)/unheard demo --out demo

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow'

test-slow: $(STAMP)  ## the heavy tests alone; Ray and schemathesis, which only they need, are installed here
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,fuzz]'
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

full-scale: $(STAMP)  ## the paper's two experiments at full size on invented voices; 6 GB of disk, an hour or two
	$(BIN)/python -m benchmarks.full_scale iemocap full-scale/iemocap
	$(BIN)/python -m benchmarks.full_scale mandarin full-scale/mandarin

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test  ## what a change has to pass

bench: $(STAMP)  ## ratios to peers, measured side by side; needs a quiet machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.features
	$(BIN)/python -m benchmarks.training.run

clean:
	rm -rf $(VENV) demo full-scale build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
