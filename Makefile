# make run | test | check | bench | chaos | chaos-edges. Everything goes into .venv; prerequisites: Python >= 3.11 with venv, and make.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
CONCURRENCY ?= registry=1,balancer=1,origin=2,edge=2
PACKAGES := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test check chaos chaos-edges bench bench-objects bench-stream bench-failover bench-tunnels system-packages format

run: .venv/.run
	@headwater-registry wait $(CONCURRENCY) & waiter=$$!; \
		trap 'kill $$waiter 2>/dev/null' EXIT; trap : INT TERM; \
		honcho start -c $(CONCURRENCY) || { status=$$?; [ $$status = 130 ] || exit $$status; }

test: .venv/.dev system-packages
	pytest $(PYTEST_ARGS)

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

bench: .venv/.dev system-packages
	python -m bench.fanout $(BENCH_ARGS)
	python -m bench.objects $(OBJECTS_ARGS)
	python -m bench.stream_limit $(STREAM_ARGS)
	python -m bench.failover $(FAILOVER_ARGS)
	python -m bench.tunnels $(TUNNELS_ARGS)

bench-objects: .venv/.dev system-packages
	python -m bench.objects $(OBJECTS_ARGS)

bench-stream: .venv/.dev system-packages
	python -m bench.stream_limit $(STREAM_ARGS)

bench-failover: .venv/.dev system-packages
	python -m bench.failover $(FAILOVER_ARGS)

bench-tunnels: .venv/.dev system-packages
	python -m bench.tunnels $(TUNNELS_ARGS)

format: .venv/.dev
	ruff check --fix .
	ruff format .

# Debian packages that tests and benchmarks need; installed where this may be done, otherwise named.
system-packages:
	@sh scripts/system-packages.sh

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
