# Every target sets up all that it needs: nothing has to be run before it, on a machine with Python 3.11+, make and git.
#
#   make demo         a shop that loses money beside the same shop with Backstay     ENGINES=docker SEED=7 BASKETS=500 FULL=1
#   make test         every test, on real servers                                    ARGS="-k barrier"
#   make check        lint, types, layers
#   make bench        speed, each case beside its floor                              AREA=locks
#   make test-matrix  tests without servers of their own, on every installed Python from 3.11 on
#   make mutants      break the code on purpose: the tests must notice
#   make soak         long random runs                                               ARGS="-k tcc"
#   make soak-locks   every lock on every store while servers and processes break    SEED=7 OPERATIONS=10000 ARGS="-k redis"
#   make public-api   write tests/public_api.txt anew
#   make clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test check format bench test-matrix mutants soak soak-locks public-api clean

VENV := .venv
BIN := $(VENV)/bin
SETUP := pyproject.toml .ci/venv
# Tests share the machine's cores; more workers than that only make the timings of fault tests looser.
WORKERS ?= 2
ARGS ?=
CHECKED := tests examples benchmarks

ENGINES ?= embedded
SEED ?=
BASKETS ?=
FULL ?=

demo: $(VENV)/.demo $(if $(filter docker,$(ENGINES)),$(VENV)/.dev)
	$(if $(filter docker,$(ENGINES)),docker/engine.sh && PYTHONPATH=tests) $(BIN)/python -m examples.shop --engines $(ENGINES) \
	    $(if $(SEED),--seed $(SEED)) $(if $(BASKETS),--baskets $(BASKETS)) $(if $(FULL),--full) $(ARGS)

test: $(VENV)/.dev
	.ci/servers
	.ci/browser
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy $(CHECKED)
	$(BIN)/pyright $$(find -L backstay tests/typing -name '*.py')
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(AREA) $(ARGS)

test-matrix: $(VENV)/.dev
	.ci/servers
	.ci/matrix -n $(WORKERS) --dist worksteal tests/unit tests/contracts tests/stateful $(ARGS)

mutants: $(VENV)/.dev
	$(BIN)/python tests/run_mutants.py $(ARGS)

soak: $(VENV)/.dev
	.ci/servers
	$(BIN)/pytest -m soak --timeout=0 --hypothesis-profile=default $(ARGS)

soak-locks: $(VENV)/.dev
	.ci/servers
	$(if $(SEED),SEED=$(SEED)) $(if $(OPERATIONS),OPERATIONS=$(OPERATIONS)) $(BIN)/pytest tests/soak/locks -m soak --timeout=0 -s $(ARGS)

public-api: $(VENV)/.dev
	$(BIN)/python tests/public_api.py

clean:
	rm -rf build dist .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.demo: $(SETUP)
	.ci/venv $(VENV) demo
	touch $@

$(VENV)/.dev: $(SETUP)
	.ci/venv $(VENV) dev
	touch $(VENV)/.demo $@
