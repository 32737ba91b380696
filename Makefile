# Everything a person does with a checkout. `make` alone lists the targets.
#
#   PYTHON=python3.12 make install    another interpreter (3.11 or newer)
#   VENV=/somewhere   make install    another place for the environment
#   V=1               make install    all that pip has to say

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test test-faiss-gpu check bench lock clean
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := cpu,clip,words,multilingual,privacy,test,dev
SIZE := about 4 minutes and 7 GB
# faiss-cpu and faiss-gpu are the same module: each needs an environment of its own.
VENV_GPU ?= .venv-gpu
STAMP := $(VENV)/.installed

# The first interpreter that is new enough and does run (a shim may be there and not).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)

# pip names hundreds of files; show each download once, with its size, and the long last step.
ifdef V
PIP_FILTER := cat
else
PIP_FILTER := awk '/\.metadata / { next } \
	/^ *(Downloading|Using cached) / { sub(/^ *(Downloading|Using cached) ([^ ]*\/)?/, "  "); print; fflush() } \
	/^Installing collected packages/ { print "  unpacking"; fflush() }'
endif
PIP_FLAGS := --disable-pip-version-check --no-input --progress-bar off

help:
	@echo 'Catalens: one index over text, pictures and sound.'
	@echo
	@echo '  make install         environment in $(VENV) with everything, $(BIN)/catalens among it'
	@echo '  make demo            fetch a real catalog, index it, ask it questions'
	@echo '  make test            checks and tests, all that CI runs'
	@echo '  make test-faiss-gpu  tests of indexer and retriever with faiss-gpu, in $(VENV_GPU)'
	@echo '  make check           lint, format, types, import rules'
	@echo '  make bench           benchmarks: recall, latency, build'
	@echo '  make lock            write requirements.lock anew from a fresh environment'
	@echo '  make clean           remove what the targets above made, $(VENV) included'

install: $(STAMP)

# The stamp is touched last: an install that was cut off is taken up again.
$(STAMP): pyproject.toml requirements.lock
	@if [ -z "$(PYTHON)" ]; then \
		echo 'error: no Python 3.11 or newer was found.' >&2; \
		echo '       Install one (apt-get install python3 python3-venv), or name it: make install PYTHON=/path/to/python3.11' >&2; \
		exit 1; \
	fi
	@if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		version=$$("$(PYTHON)" -c 'import platform; print("Python", platform.python_version())' 2>/dev/null || echo 'no Python that runs'); \
		echo "error: Catalens needs Python 3.11 or newer; $(PYTHON) is $$version." >&2; \
		echo '       Name another: make install PYTHON=/path/to/python3.11' >&2; \
		exit 1; \
	fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo 'error: this Python cannot make virtual environments: its venv module is a package of its own.' >&2; \
		echo '       Install it: apt-get install python3-venv' >&2; \
		exit 1; \
	fi
	@if ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
		"$(PYTHON)" -m venv --clear "$(VENV)"; \
	fi
	@echo 'Installing Catalens into $(VENV): $(SIZE) the first time.'
	@"$(BIN)/python" -m pip install $(PIP_FLAGS) -c requirements.lock -e '.[$(EXTRAS)]' | $(PIP_FILTER) || { \
		echo 'error: the installation stopped; the lines above say why. `make install` takes it up again.' >&2; \
		exit 1; \
	}
	@touch "$@"
	@echo 'Installed: $(BIN)/catalens'

demo: install
	@"$(BIN)/python" -m benchmarks.demo

check: install
	@echo '== ruff check';    "$(BIN)/ruff" check .
	@echo '== ruff format';   "$(BIN)/ruff" format --check .
	@echo '== mypy';          "$(BIN)/mypy"
	@echo '== import rules';  "$(BIN)/lint-imports"

test: check
	@echo '== pytest';        "$(BIN)/python" -m pytest

# The rooms that ask FAISS. With a GPU, the tests that need one run too.
test-faiss-gpu:
	@$(MAKE) install VENV="$(VENV_GPU)" EXTRAS=gpu,words,test SIZE='about 4 minutes and 8 GB'
	@echo '== pytest';        "$(VENV_GPU)/bin/python" -m pytest tests/indexer tests/retriever

bench: install
	@"$(BIN)/python" -m benchmarks

# A fresh environment, so that the lock holds what an install takes and nothing besides.
lock:
	@temp=$$(mktemp -d); trap 'rm -rf "$$temp"' EXIT; \
	"$(PYTHON)" -m venv "$$temp/venv"; \
	"$$temp/venv/bin/python" -m pip install $(PIP_FLAGS) -e '.[$(EXTRAS)]' | $(PIP_FILTER); \
	{ sed -n '/^#/!q; p' requirements.lock; \
	  "$$temp/venv/bin/python" -m pip freeze --exclude-editable; } > "$$temp/lock"; \
	cp "$$temp/lock" requirements.lock
	@echo 'Wrote requirements.lock'

clean:
	rm -rf "$(VENV)" "$(VENV_GPU)" demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
