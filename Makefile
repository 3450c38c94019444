# `make check` is what CI runs after installing: style, types, tests.
PYTHON ?= python
# Text that one of our modules opens without naming its encoding is an error (pyproject.toml).
PYTEST = PYTHONWARNDEFAULTENCODING=1 PYTHONWARNINGS=ignore::EncodingWarning $(PYTHON) -m pytest
PYTHONS ?= python3.11 python3.13
TIMES ?= 1
RUNTIME_PYTHONS ?= $(PYTHON)

.PHONY: check quick style types test windows macos slow-tests coverage package release processors attack faults elastic benchmarks benchmarks-short tables agents docs gallery runtimes cntk-suite cntk-round-trip

check: style types test

quick:  ## style and the tests that take no time, in less than 90 s on two cores
	@start=$$(date +%s); $(MAKE) --no-print-directory style && $(PYTEST) -q -n 2 --quick; \
	status=$$?; echo "quick: $$(($$(date +%s) - start)) s"; exit $$status

style:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff check --preview --select PLW1514 .  # text files name their encoding
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTEST) -n 2

windows:  ## all tests by Windows' rules, as far as Linux can have them (tests/windows): hours. TESTS="tests/data tests/formats"
	PYTHONPATH=$(CURDIR)/tests/windows$${PYTHONPATH:+:$$PYTHONPATH} $(PYTEST) $(TESTS)

macos:  ## as `windows`, by macOS' rules
	CONVOLVE_SYSTEM=macOS PYTHONPATH=$(CURDIR)/tests/windows$${PYTHONPATH:+:$$PYTHONPATH} $(PYTEST) $(TESTS)

slow-tests:  ## all tests; tests/slow_tests.txt, which `quick` leaves out, as they are now
	$(PYTHON) -m pytest -n 2 --renew-slow-tests

coverage:  ## all tests, and which lines they reach
	$(PYTHON) -m pytest -n 2 --cov=convolve --cov-report=term:skip-covered

processors:  ## all tests as other processors run them, on $(PYTHONS): hours. SETTINGS="avx2-1 busy" TESTS=tests/training TIMES=3
	$(PYTHON) tests/processors.py --python $(PYTHONS) --settings $(SETTINGS) --tests $(TESTS) --times $(TIMES)

lower-bounds:  ## all tests with the lowest versions that pyproject.toml permits. TESTS=tests/cli TORCH=2.9.0
	$(PYTHON) tests/lower_bounds.py $(if $(TORCH),--torch $(TORCH)) --tests $(TESTS)

package:  ## wheel and source archive, in dist
	$(PYTHON) -m build --outdir dist
	$(PYTHON) -m twine check --strict dist/*

release:  ## version, changelog, build, checks, tag, upload: VERSION=0.2.0 INDEX=the address that twine uploads to
	$(PYTHON) .ci/release.py $(VERSION) $(if $(INDEX),--index $(INDEX))

cntk-suite:  ## CNTK's own tests of its Python API, out of its wheel (75 MB)
	$(PYTHON) tests/cntk_suite/run.py

cntk-round-trip:  ## networks and checkpoints to and from the real CNTK 2.7: PYTHON_CNTK=the Python that imports it
	$(PYTHON) tests/cntk_suite/round_trip.py $(PYTHON_CNTK)

attack:  ## damaged files, hostile requests, kills and errors at every event, by the ten thousand: hours; the suite runs a seeded share
	$(PYTHON) tests/faults/attack.py --out docs/reliability.json
	$(MAKE) --no-print-directory tables

faults:  ## every command is killed, and fails, at each event of the file system, and goes on; many meet in one run folder
	$(PYTHON) tests/faults/sweeps.py
	$(PYTHON) tests/faults/races.py

elastic:  ## hosts, as network namespaces, vanish from one training and return: four times, and thirty times (needs root)
	$(PYTHON) -m pytest -m slow tests/distributed/test_elastic.py

benchmarks:  ## every benchmark, for hours, then the tables: DATA=the folder with data sets, PYTHON_CNTK=the Python of CNTK 2.7
	$(PYTHON) benchmarks/all.py $(if $(DATA),--data $(DATA)) $(if $(PYTHON_CNTK),--cntk $(PYTHON_CNTK))
	$(MAKE) --no-print-directory tables

benchmarks-short:  ## a short form of most, in less than 15 minutes on a quiet machine, then the tables
	$(PYTHON) benchmarks/all.py --short $(if $(DATA),--data $(DATA))
	$(MAKE) --no-print-directory tables

tables:  ## tables and plots of results, in README.md and docs, the reference of commands and recipes, the map of the house
	$(PYTHON) docs/tables.py
	$(PYTHON) docs/cntk_names.py
	$(PYTHON) docs/reference.py
	$(PYTHON) docs/house.py

agents:  ## llms.txt, SKILL.md and the JSON Schemas of --json, from commands, pages and recipes
	$(PYTHON) docs/schemas.py
	$(PYTHON) docs/agents.py

docs:  ## the pages and the reference of the Python functions as HTML, in site
	$(PYTHON) -m zensical build --strict

gallery:  ## the reports and pictures of docs/gallery, from real trainings: FLOWERS=a folder of photographs MNIST=that of its files
	$(PYTHON) docs/gallery.py --flowers $(FLOWERS) --mnist $(MNIST)

runtimes:  ## which runtimes read our ONNX files: PHOTOGRAPHS=a folder of classes; RUNTIME_PYTHONS="python other/bin/python" NODE_MODULES=folder
	$(PYTHON) benchmarks/runtimes_table.py $(PHOTOGRAPHS) --python $(RUNTIME_PYTHONS) $(if $(NODE_MODULES),--node-modules $(NODE_MODULES))
