# Shortcuts; each line below works without make too.
PYTHON ?= python3
RUN = $(PYTHON) run.py
ENV = $(RUN) python

.PHONY: setup cifar10 test shuffle lint format lock sync store student slides book bench gifs train

setup:
	$(RUN) setup
cifar10:  # execute the main notebook into build/
	$(RUN) cifar10
test:
	$(RUN) test
shuffle:  # run the notebooks as tests in a random order; add ARGS="--seed 2"
	$(ENV) -m notebooks.tools.shuffle $(ARGS)
lint:
	$(ENV) -m ruff check .
	$(ENV) -m ruff format --check .
format:
	$(ENV) -m ruff check --fix .
	$(ENV) -m ruff format .
lock:  # add ARGS=--upgrade to take newer versions
	$(ENV) -m uv pip compile --universal --python-version 3.11 --extra dev --no-header --no-annotate \
		--no-emit-index-url --quiet $(ARGS) --output-file requirements.lock pyproject.toml
sync:  # set-up cell and badge into every notebook
	$(ENV) -m notebooks.tools.sync
store:  # execute every notebook and store its outputs
	$(ENV) -m notebooks.tools.execute --in-place notebooks/*.ipynb
student:  # notebooks/exercises from the notebooks; TEACHING.md's table of exercises
	$(ENV) -m notebooks.tools.student
	$(ENV) -m notebooks.tools.teaching
slides:  # one HTML deck a notebook, into build/slides
	$(ENV) -m notebooks.tools.slides
book:  # the notebooks as a site, into build/book
	$(ENV) -m notebooks.tools.book
bench:
	$(ENV) -m benchmarks.bench_sampler
gifs:
	$(ENV) -m gifs
train:  # retrain the stored GAN from scratch
	$(ENV) -m data.recipes.cifar10_gan
