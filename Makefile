# From a fresh machine with Python 3.11 and make: `make demo`, `make test`.

# The first of these that runs and is new enough; `make PYTHON=/path/to/python demo` takes another.
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

BIN = .venv/bin
INSTALLED = .venv/installed
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help demo test clean

help:
	@echo "make demo   trains a small RetinaNet, exports it and shows what it finds"
	@echo "make test   ruff and the tests"
	@echo "make clean  takes away the environment and what was built; runs/ and saved_models/ stay"

demo: $(INSTALLED)
	@$(BIN)/python recipes/retinanet_shapes.py --output runs/demo

test: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -n auto --dist worksteal

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find kzoo recipes tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, made once and again when the package's metadata changes.
$(INSTALLED): setup.cfg
	@$(if $(PYTHON),,echo "kzoo needs Python 3.11 or newer, and none was found: install it, or name one by make PYTHON=/path/to/python." >&2; exit 1)
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "kzoo needs Python 3.11 or newer; $(PYTHON) --version says: $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments, its venv or ensurepip is missing." \
			"On Debian and Ubuntu: apt install python3-venv." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing kzoo and what it needs into .venv, once: a few minutes ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@
