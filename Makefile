# `make help` lists the targets. Everything runs from .venv; only Debian packages are installed outside it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
WORKERS ?= 2
BIN := .venv/bin
LOCK := requirements/dev.txt
PYPROJECTS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml proto/pyproject.toml cli/pyproject.toml lab/pyproject.toml)
SOURCES := $(wildcard libs/*/src services/*/src) proto/src cli/src lab/src
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action ignore
PIP_COMPILE := ../$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links --strip-extras --allow-unsafe --no-header
PYTEST := $(BIN)/python -m pytest
# COMPILED=1: the simulators with compiled cores, the same results in half the time, once compiled (4 minutes).
SIM_PYTHON := $(if $(COMPILED),$(BIN)/python scripts/compile-cores && cd build/compiled && ../../)$(BIN)/python

# One cluster lives through all of it, so the order is given.
E2E := $(addprefix tests/k8s/suite/,install.py disruption.py api_server.py nodes.py uninstall.py variants.py)

# Stamps bear the hash of what they stand for: a checkout or a rebase that only touches files costs nothing.
LOCKED := .venv/.locked-$(shell sha256sum < $(LOCK) | cut -c1-16)
INSTALLED := .venv/.installed-$(shell cat $(LOCK) $(PYPROJECTS) | sha256sum | cut -c1-16)

.PHONY: help setup build lock proto proto-check lint format test check demo bench bench-ipam bench-mesh sim sim-scale sim-ipam chart chart-test images e2e clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(INSTALLED) ## Install what is missing: Debian packages (as root), the locked tools, our packages

$(LOCKED):
	scripts/install-debian-packages || [ "$$(id -u)" -ne 0 ]
	$(PYTHON) -m venv --clear .venv
	$(PIP_INSTALL) --require-hashes --no-deps -r $(LOCK)
	@touch $@

$(INSTALLED): $(LOCKED)
	$(PIP_INSTALL) --no-deps --no-build-isolation $(patsubst %/pyproject.toml,-e ./%,$(PYPROJECTS))
	@touch $@

# Services run as users of their own, who may write no byte code beside the sources.
build: setup ## Compile the CNI executable of the hosts, and our packages to byte code
	@$(MAKE) --no-print-directory -C services/cni-shim/exec
	@$(BIN)/python -m compileall -q $(SOURCES)

lock: setup ## Pin the newest versions that requirements/*.in allow, with hashes
	cd requirements && $(PIP_COMPILE) --output-file dev.txt dev.in
	cd requirements && $(PIP_COMPILE) --constraint dev.txt --output-file runtime.txt runtime.in

proto: setup ## Regenerate the code below proto/src
	$(BIN)/python scripts/generate-protos

proto-check: setup ## Fail when the code below proto/src is not what proto/weave says
	$(BIN)/python scripts/generate-protos --check

lint: setup ## Style, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup build ## All tests; WORKERS=2, ARGS='-m "not lab" services/ipam'
	$(PYTEST) -n $(WORKERS) --dist loadgroup $(ARGS)

check: lint test ## What must pass before review

demo: setup build ## Bring up a cluster on this machine and send packets through it
	$(BIN)/python -m weave_lab demo

bench: setup build ## Measure side by side with others; ARGS=...
	$(BIN)/python -m bench $(ARGS)

bench-ipam: setup ## Durable allocations per second; ARGS=--redis measures that store too
	$(BIN)/python -m bench.ipam $(ARGS)

bench-mesh: setup ## 25 real gossip processes find each other and idle, with and without a secret; ARGS='--peers 25 --idle 30'
	$(BIN)/python -m bench.mesh $(ARGS)
	$(BIN)/python -m bench.mesh --secret $(ARGS)

sim: setup ## Meshes of 50 peers in trouble, all invariants checked: SEED=1234 SEEDS=50 runs 1234 to 1283
	$(SIM_PYTHON) -m tests.sim --seed $(or $(SEED),1234) --seeds $(or $(SEEDS),50) --workers $(WORKERS) $(ARGS)

sim-scale: setup ## The scenario table at 1,000 peers: SEED=1234 SEEDS=3; COMPILED=1 halves the hours
	$(SIM_PYTHON) -m tests.sim.scale --seed $(or $(SEED),1234) --seeds $(or $(SEEDS),3) --workers $(WORKERS) $(ARGS)

chart: setup ## Write the chart's table of values and the plain manifest
	$(BIN)/python scripts/render-chart

chart-test: setup ## Tests of the chart; builds Helm once, which takes minutes (or KUBE_BIN_DIR=...)
	$(PYTEST) -n $(WORKERS) charts/weave-net/tests $(ARGS)

sim-ipam: setup ## Random operations on the address rings of small clusters: SEED=1 SEEDS=200 OPS=1000
	$(SIM_PYTHON) -m tests.sim_ipam --seed $(or $(SEED),1) --seeds $(or $(SEEDS),200) --ops $(or $(OPS),1000) \
		--workers $(WORKERS) $(ARGS)

images: setup ## Build the image (Docker or buildah) and an archive for containerd in build/images
	scripts/build-images

e2e: setup ## A real three-node Kubernetes on this machine; needs root, `make images`, Go or KUBE_BIN_DIR, containerd, runc, etcd
	[ -f build/images/weave-net.tar ] || scripts/build-images
	$(PYTEST) -p no:xdist -s -v --timeout 600 $(E2E) $(ARGS)

clean: ## Remove everything that `setup` and the tools made
	rm -rf .venv build services/cni-shim/exec/build .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name '*.egg-info' -prune -exec rm -rf {} +
