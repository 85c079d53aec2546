# callgate: everything a newcomer needs is `make boot` and `make test`.
# Targets marked with ## are listed by `make` alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
ARGS ?=
SOURCES := asm disk kernel server tools

.DEFAULT_GOAL := help
.PHONY: help boot test lint format bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

boot: $(STAMP) ## boot the demo image, or ARGS="their.img -c 'dir'"
	@$(BIN)/callgate boot $(ARGS) || { status=$$?; test $$status -eq 130 || exit $$status; } # 130: left by Ctrl-]

# Rewriting the assertions of all test modules takes each worker 5 s: what they make of them is kept for the next run.
test: $(DEV_STAMP) ## run the tests (ARGS are pytest's)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

lint: $(DEV_STAMP) ## check style, types and the layers between the packages
	@mkdir -p build/ns && ln -sfn ../.. build/ns/callgate
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@MYPYPATH=build/ns $(BIN)/mypy -p callgate.kernel -p callgate.asm -p callgate.server -p callgate.disk -p callgate.tools
	@$(BIN)/lint-imports

format: $(DEV_STAMP) ## format the Python sources
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## print the benchmarks' figures
	@$(BIN)/callgate bench ipc

clean: ## remove what was built, keep the environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf $(VENV)

# The environment is made again when the project's metadata changes.  Compiling spares the first boot 0.1 s, and
# every boot where Python is told to write no bytecode.
$(VENV)/pyvenv.cfg: tools/check_python.py
	@$(PYTHON) tools/check_python.py
	@echo "setting up $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(STAMP): pyproject.toml $(VENV)/pyvenv.cfg
	@echo "installing callgate and what it needs" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . || { \
		echo "make: the packages could not be installed; is a package index reachable?" >&2; exit 1; }
	@$(BIN)/python -m compileall -q $(SOURCES)
	@touch $@

$(DEV_STAMP): $(STAMP)
	@echo "installing the tools that tests and checks need" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { \
		echo "make: the packages could not be installed; is a package index reachable?" >&2; exit 1; }
	@touch $@
