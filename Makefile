# `make` says what there is. Set-up happens by itself, and again only when a lock file has changed.

PYTHON ?= python3
ARGS ?=
# How many processes the tests use; files are shared out whole.
WORKERS ?= 2
# What the benchmark works on: sqlite or postgres.
STORE ?= sqlite

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

digest = $(shell { sha256sum $(1) 2>/dev/null || shasum -a 256 $(1); } | cut -c1-16)

BIN := .venv/bin
DEV := .venv/.installed-$(call digest,requirements-dev.txt)
RUNTIME := .venv/.runtime-$(call digest,requirements.txt)
# The dev lock holds everything of the runtime lock in the same versions.
DEMO := $(or $(wildcard $(DEV)),$(RUNTIME))
SOURCES := src tests $(wildcard bench) examples

PIP := PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip --disable-pip-version-check -qq
UV := uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11
PIP_COMPILE := pip-compile -q --generate-hashes --no-header --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help demo test test-long chaos soak check bench lint types fmt lock clean
.DEFAULT_GOAL := help

help: ## this list
	@echo "Usage: make TARGET [ARGS=...] [PYTHON=python3.11 or newer]"
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '%-14s%s\n' "$$target" "$$text"; done

demo: $(DEMO) ## start Tocsin with a receiver to watch, nothing to configure
	@PYTHONPATH=src exec $(BIN)/python -m tocsin demo $(ARGS)

test: $(DEV) ## the tests that take seconds
	$(BIN)/python -m pytest tests -m "not long" -n $(WORKERS) --dist loadfile $(ARGS)

test-long: $(DEV) ## the tests that take minutes: crashes, load, browser
	$(BIN)/python -m pytest tests -m "long and not alone" -n $(WORKERS) --dist loadfile $(ARGS) \
		|| [ $$? -eq 5 ]
	$(BIN)/python -m pytest tests -m "long and alone" $(ARGS) || [ $$? -eq 5 ]

chaos: $(DEV) ## several nodes killed, paused and cut off for longer; TOCSIN_CHAOS_SECONDS of kills
	TOCSIN_CHAOS_SECONDS=$${TOCSIN_CHAOS_SECONDS:-180} $(BIN)/python -m pytest -m long -s \
		tests/blackbox/test_cluster_*.py tests/storage/test_postgres.py $(ARGS)

soak: $(DEV) ## half load for ten minutes or TOCSIN_SOAK_SECONDS, killed again and again
	TOCSIN_SOAK_SECONDS=$${TOCSIN_SOAK_SECONDS:-600} $(BIN)/python -m pytest -m long -s \
		tests/blackbox/test_soak.py $(ARGS)

check: lint types ## everything a change must pass: lint, types, layers, tests
	@$(MAKE) --no-print-directory test

bench: $(DEV) ## measure; ARGS names what, STORE=postgres the other store
	$(BIN)/python -m bench --store $(STORE) $(ARGS)

lint: $(DEV) ## ruff and the layer contracts
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-cache

types: $(DEV) ## mypy --strict
	$(BIN)/mypy --strict $(SOURCES)

fmt: $(DEV) ## format, and repair what ruff can repair
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: ## make both lock files again; ARGS=--upgrade takes the newest versions
	@if command -v uv >/dev/null; then \
		$(UV) $(ARGS) -o requirements.txt requirements.in; \
		$(UV) $(ARGS) -c requirements.txt -o requirements-dev.txt requirements-dev.in; \
	else \
		echo "uv is not installed; pip-tools does the same in two or three minutes."; \
		scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
		$(PYTHON) -m venv "$$scratch"; \
		"$$scratch/bin/python" -m pip --disable-pip-version-check -qq install pip-tools; \
		"$$scratch/bin/"$(PIP_COMPILE) $(ARGS) -o requirements.txt requirements.in; \
		"$$scratch/bin/"$(PIP_COMPILE) $(ARGS) -c requirements.txt -o requirements-dev.txt requirements-dev.in; \
	fi

clean: ## remove what these targets have made, .venv included
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests $(wildcard bench) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "error: there is no '$(PYTHON)'; name a Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Tocsin needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1);" \
			"name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

$(DEV): | $(BIN)/python
	@echo "Setting up .venv for development; this takes about a minute ..."
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed-* .venv/.runtime-*
	@touch $@

$(RUNTIME): | $(BIN)/python
	@echo "Setting up .venv; this takes about a minute ..."
	@$(PIP) install --require-hashes -r requirements.txt
	@rm -f .venv/.installed-* .venv/.runtime-*
	@touch $@
