# `make check` is what CI runs after installing: style, types, tests.
PYTHON ?= python

.PHONY: check style types test fuzz tables docs

check: style types test

style:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n 2

fuzz:  ## damaged files by the thousand; the suite runs a seeded few of them
	$(PYTHON) tests/formats/fuzz_images.py 2000
	$(PYTHON) tests/data/fuzz_loader.py 2000
	$(PYTHON) tests/importers/fuzz.py --count 20000
	$(PYTHON) tests/importers/brainscript/fuzz_brainscript.py 5000
	$(PYTHON) tests/importers/fuzz.py caffe --count 5000

tables:  ## of results, in README.md and docs, from docs/results
	$(PYTHON) docs/tables.py

docs:  ## the pages and the reference of the Python functions as HTML, in site
	$(PYTHON) -m zensical build --strict
