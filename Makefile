# Each target does all of its own set-up on a machine that has python3 (3.10 or newer), python3-venv, make and git.
# Downloads come from the package index that pip is set up for; everything lands in .venv and demo/.

PYTHON ?= python3
VENV := .venv
LEAST_COVERAGE := 95
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

# Compiled once, the tests and the processes that they start begin seconds sooner.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-pays test check check-full coverage system-packages clean

demo: $(STAMP)
	$(VENV)/bin/coopexport demo demo

demo-pays: $(STAMP)
	$(VENV)/bin/coopexport demo --larger demo-pays

test: check system-packages
	$(RUN) -m pytest -n auto -m "not full" --durations=20

# Lines and branches of the five rooms that the quick tests reach in their own processes.
coverage: $(STAMP) system-packages
	$(RUN) -m pytest -n auto -m "not full" --cov --cov-fail-under=$(LEAST_COVERAGE)

check-full: check system-packages
	$(RUN) -m pytest -n auto

# Tests marked `system` need these; without them pytest leaves those tests out and says so.
system-packages:
	@sh tests/install_system_packages.sh tests/system-packages.txt

# Style, types, and which room may import which.
check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@if $(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then $(VENV)/bin/mypy; \
	else echo "mypy is left out: NumPy for Python 3.10 has older types"; fi
	$(VENV)/bin/lint-imports

$(STAMP): pyproject.toml constraints.txt tests/requirements-without-dependencies.txt
	$(PYTHON) -c 'import sys; sys.exit("coopexport needs Python 3.10 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[test]'
	$(RUN) -m pip install --disable-pip-version-check --quiet --no-deps --requirement tests/requirements-without-dependencies.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) .coverage demo demo-pays dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
