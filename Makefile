# Everything below needs Python 3.11 or newer, make, and PyPI. The virtual environment is .venv; `make clean` removes it.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?=
MINUTES ?= 10

# Exact versions, for what is installed and for what builds the package (by its name in old and new pip).
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)

# Where the tests run beside the Python that .venv has, but for those that need real sockets.
OTHER_PYTHONS := 3.11 3.12 3.13

.PHONY: help demo test test-all lint bench sim sim-dht sim-cost interop interop-all interop-dht interop-mdns interop-pubsub interop-relay netns hostile soak protos clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.cli ## Two processes hold a conversation over one connection, and tell what happens
	@$(BIN)/libp2p demo

test: $(VENV)/.dev ## Run all tests
	@$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-all: test ## Run all tests, and on each other Python there is those that need no real sockets
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(OTHER_PYTHONS); do \
		if [ $$version = $$own ]; then continue; fi; \
		if ! python=$$(.ci/find-python $$version); then \
			echo "-- Python $$version: there is none on this machine, nothing was tested on it"; continue; \
		fi; \
		echo "-- Python $$version: $$python"; \
		$(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON=$$python \
			PYTEST_ARGS="-m 'not real' $(PYTEST_ARGS)" || exit 1; \
	done

lint: $(VENV)/.dev ## Check style, types and the layers of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fuzz: $(VENV)/.fuzz ## Fuzz parsers and handshakes, guided by coverage, for MINUTES (10)
	@$(BIN)/python tests/fuzz --minutes $(MINUTES)

bench: $(VENV)/.bench ## Measure, beside other implementations, in one table
	@$(BIN)/python -m bench

sim: $(VENV)/.dev ## Simulate pubsub on whole networks; more than an hour; figures and plots go to docs/pubsub-results.md
	@$(BIN)/python -m sim --write

sim-dht: $(VENV)/.dev ## Simulate DHTs of up to 1,000 servers; figures and plots go to docs/dht-results.md (SIM_ARGS=large: 5,000)
	@$(BIN)/python -m sim.dht --write $(SIM_ARGS)

sim-cost: $(VENV)/.dev ## Say what simulated hosts, connections and messages cost
	@$(BIN)/python -m bench.simulation

interop: $(VENV)/.dev ## Talk to other implementations, in both roles
	@$(BIN)/python -m interop

interop-dht: $(VENV)/.dev ## Share a DHT with other implementations (DHT_ARGS="--peer go kubo --transport tcp")
	@$(BIN)/python -m interop.dht $(DHT_ARGS)

interop-mdns: $(VENV)/.dev ## Find, and be found by, other implementations by mDNS, in network namespaces (needs root)
	@$(BIN)/python -m interop.mdns

interop-pubsub: $(VENV)/.dev ## Be in one pubsub network with other implementations (PEER=go TRANSPORT=tcp CHECK=idontwant)
	@$(BIN)/python -m interop.pubsub

interop-all: interop interop-dht interop-pubsub interop-relay ## All of these, over all transports

interop-relay: $(VENV)/.dev ## Reach peers through relays, with others in each part
	@$(BIN)/python -m interop.relay $(RELAY_ARGS)

netns: $(VENV)/.dev ## Punch holes through NATs of this machine's kernel (root, nftables); figures go to docs/nat-results.md
	@$(BIN)/python -m tests.netns $(NETNS_ARGS)

soak: $(VENV)/.dev ## Use a host for MINUTES (10), then as long again while it is killed each minute
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) --write

hostile: $(VENV)/.dev ## Attack a host, and say how honest peers fare (HOSTILE_ARGS=--tenth: a tenth of it)
	@$(BIN)/python -m tests.hostile $(HOSTILE_ARGS)

protos: .venv-protos/.done ## Generate the *_pb2.py of every .proto
	@cd src && find libp2p -name '*.proto' | sort | xargs \
		../.venv-protos/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=.

clean: ## Remove what was installed and generated, except the *_pb2.py
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a step runs again only when what it depends on has changed.

$(VENV)/.python:
ifeq ($(PYTHON),)
	@echo 'No Python 3.11 or newer (with venv) found; name one: make PYTHON=/path/to/python3.11' >&2; exit 1
else
	@echo 'Making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@
endif

$(VENV)/.cli: $(VENV)/.python pyproject.toml constraints.txt
	@echo 'Installing libp2p and its command into $(VENV)'
	@$(PIP) pip
	@$(PIP) --editable '.[cli]'
	@touch $@

$(VENV)/.dev: $(VENV)/.cli
	@echo 'Installing the development tools into $(VENV)'
	@$(PIP) --group dev
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@echo 'Installing atheris into .venv'
	@$(PIP) --group fuzz
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@$(PIP) --group bench
	@touch $@

.venv-protos/.done:
	@$(PYTHON) -m venv .venv-protos
	@PIP_CONSTRAINT= .venv-protos/bin/python -m pip install --quiet grpcio-tools==1.62.3 'protobuf<5'
	@touch $@
