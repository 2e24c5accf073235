# Every recipe of the project. `make help` lists them.
#
# All of them work in .venv, which is made with the hashed versions of requirements/ on first use
# and brought up to date when those files change. Nothing is needed beforehand but Python 3.11 or
# newer with its venv module, and a package index that pip can reach.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: demo test check bench bench-cluster bench-trading faults soak chaos fuzz compat coverage requirements clean help

# The newest Python that can make a virtual environment; or say make PYTHON=/path/to/python.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

# Passed on to the program that a recipe runs: make demo ARGS="--plot latency.png"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What is linted and type-checked: those of the folders that are there.
CODE := $(wildcard src tests benchmarks examples scripts)

# Prove the package on real work: a trading day on a live blotter, against a server of its own unless
# REDIS_URL or REDIS_HOST names another.
demo: $(VENV)/.run  ## run the demo; ARGS="--help" shows what it takes
	$(BIN)/redisutils demo $(ARGS)

# The whole test suite, against real servers; a file of tests is one process's.
test: $(VENV)/.dev  ## run the tests; ARGS="-k pool" picks some
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

# Not with the tests: some that look at times may fail under it, and are judged by `make test`.
coverage: $(VENV)/.dev  ## branches of connection, pool and retry that the tests go through
	rm -rf .cache/coverage
	-$(BIN)/python -m coverage run -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		--ignore tests/redis_py $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# What can be known without running it: lint, layout, types, and which file may import which.
check: $(VENV)/.dev  ## lint, types and architecture
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Side by side against the peers, in one run; leaves a table and a chart in benchmarks/results.
bench: $(VENV)/.bench  ## compare with other clients
	$(BIN)/python -m benchmarks $(ARGS)

# The same for clients of a cluster; leaves cluster.md and a chart in benchmarks/results.
bench-cluster: $(VENV)/.bench  ## compare with other cluster clients, about 8 minutes
	$(BIN)/python -m benchmarks.cluster $(ARGS)

# The trading services beside the same by hand on redis-py; leaves trading.md and a chart. On real
# ticks where there are any: REDISUTILS_TAPE=/path/to/trades.csv.gz (columns DateTime,Price,Volume).
bench-trading: $(VENV)/.bench  ## measure quotes, feeds, trades and orders, about 5 minutes
	$(BIN)/python -m benchmarks.trading --seconds 1 $(ARGS)

# The same faults for redisutils and its peers; leaves docs/faults.md.
faults: $(VENV)/.bench  ## what callers see when the network and the server fail
	$(BIN)/python -m benchmarks.faults $(ARGS)

# Everything at once under random faults, and nothing may be lost, doubled, mixed up or left over.
soak: $(VENV)/.dev  ## ten minutes under fire; ARGS="--minutes 1 --seed 7"
	$(BIN)/python -m tests.soak $(ARGS)

# Clusters and sentinels that lose nodes, move slots, grow and shrink under load.
chaos: $(VENV)/.dev  ## change clusters under load; ARGS="--minutes 2 --seed 7 --only NAME"
	$(BIN)/python -m tests.chaos $(ARGS)

# Coverage-guided, for what reads the network. Needs Linux.
fuzz: $(VENV)/.fuzz  ## fuzz what reads the network; ARGS="--seconds 600"
	$(BIN)/python -m tests.fuzz $(ARGS)

# redis-py's own asyncio tests, run on our client.
compat: $(VENV)/.dev  ## run redis-py's tests on our client
	$(BIN)/python -m tests.redis_py $(ARGS)

# Resolve the dependencies of pyproject.toml anew; each file keeps to the versions of the one
# before it. Needs uv. UPGRADE=--upgrade takes the newest of everything.
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate \
	--custom-compile-command "make requirements" $(UPGRADE) pyproject.toml --extra all
requirements:  ## pin the dependencies again
	$(COMPILE) --group build -o requirements/run.txt
	$(COMPILE) --group dev -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) --group dev --group bench -c requirements/dev.txt -o requirements/bench.txt
	$(COMPILE) --group dev --group fuzz -c requirements/dev.txt -o requirements/fuzz.txt

# Everything that the other recipes made, but for the results of the benchmarks.
clean:  ## remove .venv and all caches
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# The recipes with their comments, read from this file.
help:  ## list the recipes
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# An empty virtual environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed" \
		"(on Debian: apt-get install python3-venv), or make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of requirements. The project itself is installed last, editable, with
# the hashed hatchling: without build isolation pip fetches nothing that has no hash.
$(VENV)/.%: requirements/%.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r $<
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
