# npas: see README.md. Override the interpreter with `make PYTHON=python3.12 ...`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help install search test cross sanitize lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install npas into it

search: $(STAMP) ## run the main job, e.g. make search ARGS="data=cifar10 budget=40%"
	$(BIN)/npas search $(ARGS)

test: $(STAMP) ## run the tests, e.g. make test ARGS="tests/pruning -k admm"
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

cross: ## install what other devices are compiled for and tested with (Debian and Ubuntu)
	command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null && test -x /usr/sbin/sshd || { \
	  $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y -qq gcc-aarch64-linux-gnu qemu-user openssh-server; }

sanitize: $(STAMP) ## test the compiler with generated code under gcc's sanitizers
	NPAS_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/compiler $(ARGS)

lint: $(STAMP) ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove .venv and caches; runs/ and data/ stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone, so that a CPU build that pip has been pointed to (--find-links, an extra
# index) is taken before anything else can ask for the newest one.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]' -c constraints.txt
	touch $@
