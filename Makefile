# tf-models-official runs on 3.11 and 3.12.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
SEED ?= 0
VENV := .venv
RUN := $(VENV)/bin/python

FUZZ_CASES ?= 20000

SITE ?= build/site

.PHONY: demo demo-video demo-coco test test-io fuzz mutants lint docs

demo: $(VENV)/installed-demo
	$(RUN) training/demo.py --work_dir=demo_work --seed=$(SEED)

# Real footage, one label and several, trainings that are killed; at most 20 minutes on two cores.
demo-video: $(VENV)/installed-demo
	$(RUN) training/demo_video.py --work_dir=demo_video_work --seed=$(SEED)

# Annotated photos, learned by heart by detectors of boxes, masks and keypoints; at most 15 minutes on two cores.
demo-coco: $(VENV)/installed-photos
	$(RUN) training/demo_coco.py --work_dir=demo_coco_work --seed=$(SEED)

test: $(VENV)/installed-test $(VENV)/installed-photos
	$(RUN) -m pytest -q -n 2 --dist loadfile

# tensorflow-io's video decoder and training beside it, on the last TensorFlow that it loads on.
test-io: .venv-io/installed
	LD_LIBRARY_PATH=$$(.venv-io/bin/python tests/with_io/ffmpeg4.py .venv-io/ffmpeg4) \
		.venv-io/bin/python -m pytest -q tests/with_io tests/test_golden.py tests/test_video_training.py

# The parsers of files and requests from outside, longer than `make test` does.
fuzz: $(VENV)/installed-test
	FUZZ_CASES=$(FUZZ_CASES) $(RUN) -m pytest -q --timeout=0 tests/fuzz

# Faults put into the package one at a time: which tests notice? MUTANTS=--first only asks whether any does.
mutants: $(VENV)/installed-test
	$(RUN) tests/mutants/run.py $(MUTANTS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The pages and the reference as a site. Nothing is fetched, by the build or by who reads it.
docs: $(VENV)/installed-docs
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/docs . $(SITE)
	@echo "the site: $(abspath $(SITE))/index.html"

# One virtual environment; `make demo` and `make test` add to it what they need.
$(VENV)/installed-%: setup.cfg pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e '.[$*]'
	touch $@

# imgaug names an OpenCV that would take the place of ours. Its photo is all that is wanted.
$(VENV)/installed-photos: $(VENV)/installed-demo
	$(RUN) -m pip install --quiet --no-deps imgaug==0.4.0
	touch $@

.venv-io/installed: setup.cfg pyproject.toml
	test -x .venv-io/bin/python || $(PYTHON) -m venv .venv-io
	.venv-io/bin/python -m pip install --quiet --upgrade pip
	.venv-io/bin/python -m pip install --quiet -e '.[io,test]'
	touch $@
