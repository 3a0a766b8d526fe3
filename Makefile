# tf-models-official runs on 3.11 and 3.12.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
SEED ?= 0
VENV := .venv
RUN := $(VENV)/bin/python

FUZZ_CASES ?= 20000

.PHONY: demo test fuzz mutants lint

demo: $(VENV)/installed-demo
	$(RUN) training/demo.py --work_dir=demo_work --seed=$(SEED)

test: $(VENV)/installed-test
	$(RUN) -m pytest -q -n 2 --dist loadfile

# The parsers of files and requests from outside, longer than `make test` does.
fuzz: $(VENV)/installed-test
	FUZZ_CASES=$(FUZZ_CASES) $(RUN) -m pytest -q --timeout=0 tests/fuzz

# Faults put into the package one at a time: which tests notice? MUTANTS=--first only asks whether any does.
mutants: $(VENV)/installed-test
	$(RUN) tests/mutants/run.py $(MUTANTS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# One virtual environment; `make demo` and `make test` add to it what they need.
$(VENV)/installed-%: setup.cfg pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e '.[$*]'
	touch $@
