# Everything a developer or CI does. Needs Python 3.11+, make and git, nothing else.

PYTHON ?= python3
UV_VERSION := 0.13.9
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
CODE := core broker workflows activities workers api mlops benchmarks tests web/tools

# uv must use this virtual environment and this Python, wherever make was called from.
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV

.DELETE_ON_ERROR:
.PHONY: help install demo up test test-fast bench lint format types imports web web-test clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMPS)/sync ## Install everything from the lock file into .venv.

$(STAMPS)/venv: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Python 3.11 or newer is needed; name one with: make install PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) lacks venv and ensurepip; on Debian: apt-get install python3-venv" >&2; \
	    exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@mkdir -p $(STAMPS) && touch $@

# Inexact: an exact sync would remove uv itself, which is not in the lock file. Compiled: the first
# start of the platform would otherwise spend half its time on that.
$(STAMPS)/sync: $(STAMPS)/venv pyproject.toml uv.lock
	$(BIN)/uv sync --frozen --inexact --compile-bytecode --python $(BIN)/python
	@touch $@

demo: install web ## Start the platform and its main job on real data; ARGS=--exit ends it.
	@$(BIN)/iotlinker demo $(ARGS)

up: install web ## Start the platform without the demo.
	@$(BIN)/iotlinker up $(ARGS)

# Side by side, a file at a time: half of the time these tests wait. Those of a whole platform come
# after, alone.
test: install lint types imports web-test ## Everything that CI runs.
	$(BIN)/pytest $(PARALLEL) -m "not chaos" $(ARGS)
	$(BIN)/pytest -m chaos $(ARGS)

test-fast: install ## Tests without the slow ones.
	$(BIN)/pytest $(PARALLEL) -m "not slow and not chaos" $(ARGS)

lint: install ## Style and format, checked.
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: install
	$(BIN)/pyright

imports: install
	$(BIN)/lint-imports

format: install ## Style and format, mended.
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: install ## Run every benchmark.
	@for file in benchmarks/[a-z]*.py; do \
	    grep -q '__main__' $$file || continue; \
	    echo "== $$file"; \
	    $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; \
	done

web: install ## Build the web application; Node comes with the lock file, as a wheel.
	$(BIN)/python web/tools/build.py

web-test: install
	$(BIN)/python web/tools/build.py test

clean: ## Remove what was installed and built; state and data stay.
	rm -rf $(VENV) $(STAMPS) .cache web/node_modules web/.next web/out
