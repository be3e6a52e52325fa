# make run | run-compiled | compiled | test | check | bench | chaos | chaos-edges. Everything goes into .venv; prerequisites: Python >= 3.11 with venv, and make.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
CONCURRENCY ?= registry=1,balancer=1,origin=2,edge=2
PACKAGES := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)
COMPILED := build/compiled
LEAVES := $(wildcard $(foreach lib,libs/amf libs/rtmp libs/sends,$(lib)/*.toml $(lib)/*.py $(lib)/*/*.py $(lib)/*/*.c))
LANES := unit store others
LANE_unit := tests/unit
LANE_store := tests/store
LANE_others := tests/builds tests/property
BENCHES := leaf fanout rooms idle publishers objects calls cost growth stream failover tunnels
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run run-compiled test test-lanes test-alone compiled check chaos chaos-edges bench $(BENCHES:%=bench-%) system-packages bench-packages format

# With its leaf modules compiled: `make run` is pure Python.
run-compiled: compiled
run-compiled bench $(BENCHES:%=bench-%): export PYTHONPATH := $(CURDIR)/$(COMPILED)

run run-compiled: .venv/.run
	@headwater-registry wait $(CONCURRENCY) & waiter=$$!; \
		trap 'kill $$waiter 2>/dev/null' EXIT; trap : INT TERM; \
		honcho start -c $(CONCURRENCY) || { status=$$?; [ $$status = 130 ] || exit $$status; }

# Where nothing can be compiled, the tests of what is compiled are skipped, but not in CI. They start hundreds of processes: what
# Python compiles for the first is kept for the others, also where it is told to keep nothing.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.dev system-packages
	@$(MAKE) --no-print-directory compiled || [ -z "$(CI)" ]
ifdef PYTEST_ARGS
	pytest $(PYTEST_ARGS)
else
	@$(MAKE) --no-print-directory --keep-going test-lanes test-alone
endif

# Tests without a cluster go side by side. What is left has the machine for itself.
test-lanes:
	@echo "headwater: $(foreach lane,$(LANES),$(LANE_$(lane))) side by side; what they say comes when they have ended"
	@$(MAKE) --no-print-directory --keep-going --jobs=3 --output-sync=target $(LANES:%=test-%)

test-alone:
	@pytest $(foreach lane,$(LANES),$(LANE_$(lane):%=--ignore=%))

$(LANES:%=test-%): test-%:
	@pytest $(LANE_$*)

check: .venv/.dev
	ruff format --check .
	ruff check .
	mypy
	python scripts/wire_doc.py --check
	pytest -q tests/unit tests/property

# Ten minutes of a cluster that is broken all the time: CHAOS_ARGS="--seed 7 --store redis --seconds 60".
chaos: .venv/.dev system-packages
	PYTHONPATH=tests python -m support.chaos $(CHAOS_ARGS)

# Edges behind nginx and HAProxy, killed 20 times, on each store; and with one origin: EDGES_ARGS="--kills 5".
chaos-edges: .venv/.dev system-packages
	PYTHONPATH=tests python -m support.edge_chaos --balancer nginx --store sqlite $(EDGES_ARGS)
	PYTHONPATH=tests python -m support.edge_chaos --balancer nginx --store redis --edges 3 --origins 1 $(EDGES_ARGS)
	PYTHONPATH=tests python -m support.edge_chaos --balancer haproxy --store sqlite --edges 3 --origins 1 $(EDGES_ARGS)
	PYTHONPATH=tests python -m support.edge_chaos --balancer haproxy --store redis $(EDGES_ARGS)

# All of them, one after the other; or one alone, with its options: make bench-fanout FANOUT_ARGS="--players 1000".
# One that could not measure everything does not keep the others from it.
bench:
	@$(MAKE) --no-print-directory -k $(BENCHES:%=bench-%)

$(BENCHES:%=bench-%): .venv/.dev bench-packages compiled

bench-leaf:
	python -m bench.leaf $(LEAF_ARGS)

bench-fanout:
	python -m bench.fanout $(FANOUT_ARGS)

bench-rooms:
	python -m bench.rooms $(ROOMS_ARGS)

bench-idle:
	python -m bench.idle $(IDLE_ARGS)

bench-publishers:
	python -m bench.publishers $(PUBLISHERS_ARGS)

bench-objects:
	python -m bench.objects $(OBJECTS_ARGS)

bench-calls:
	python -m bench.calls $(CALLS_ARGS)

bench-cost:
	python -m bench.cost $(COST_ARGS)

bench-growth:
	python -m bench.growth $(GROWTH_ARGS)

bench-stream:
	python -m bench.stream_limit $(STREAM_ARGS)

bench-failover:
	python -m bench.failover $(FAILOVER_ARGS)

bench-tunnels:
	python -m bench.tunnels $(TUNNELS_ARGS)

format: .venv/.dev
	ruff check --fix .
	ruff format .

# libs/amf, libs/rtmp and libs/sends with their leaf modules compiled: wheels in dist, and unpacked for PYTHONPATH.
compiled: $(COMPILED)/.made

$(COMPILED)/.made: scripts/wheels.sh $(LEAVES) | .venv/bin/pip
	@sh scripts/wheels.sh dist $(COMPILED)
	@touch $@

# Debian packages that tests and benchmarks need; installed where this may be done, otherwise named.
system-packages:
	@sh scripts/system-packages.sh

bench-packages:
	@sh scripts/system-packages.sh bench

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headwater: Python 3.11 or newer is needed; name it with PYTHON=python3.12 make ..." >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "headwater: install Python's venv (Debian: python3-venv)" >&2; exit 2; }

.venv/.run: .venv/bin/pip requirements.txt $(PACKAGES)
	@echo "headwater: installing into .venv ..."
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.dev: .venv/bin/pip requirements.txt requirements-dev.txt $(PACKAGES)
	@echo "headwater: installing into .venv, with the tools for tests ..."
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/.run
