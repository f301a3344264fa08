# make demo | test | test-slow | test-spark | calibration | lint | bench | clean;  PYTHON=python3.12 VENV=.venv312 for another Python
# make docs | test-docs: the site, into docs/_build/html, and a browser that looks for something in it
# make dist | test-oldest | test-latest: what a release must pass;  TESTS=tests/utils for a part of the tests
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN = $(VENV)/bin

TESTS ?= tests
# third parties of one age deprecate what those of another do
OTHER_AGES = -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning

.PHONY: demo test test-slow test-spark spark jvm calibration lint bench docs test-docs dist test-oldest test-latest clean

demo: $(VENV)/.plot
	$(BIN)/python examples/plot_sleepstudy.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not spark and not docs"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow

test-spark: spark
	$(BIN)/python -m pytest -m spark

spark: jvm $(VENV)/.spark

jvm:
	@command -v java >/dev/null || test -n "$$JAVA_HOME" \
		|| { echo "Spark needs Java 17 or newer: apt-get install default-jre-headless (Debian," \
		"Ubuntu), brew install openjdk (macOS), or JAVA_HOME=... of one that is there" >&2; exit 1; }

calibration: $(VENV)/.dev
	$(BIN)/python tests/statistical/calibration_report.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py $(BENCH)

docs: $(VENV)/.docs
	MPLBACKEND=Agg $(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html
	$(BIN)/python docs/_ext/links.py docs/_build/html

test-docs: docs
	$(BIN)/python -m pytest -m docs tests/docs
	$(BIN)/python -m pytest --doctest-modules --doctest-ignore-import-errors skhier

dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python release/check_dist.py dist

test-oldest: .venv-oldest/.test
	.venv-oldest/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not spark and not docs" $(OTHER_AGES) $(TESTS)

test-latest: .venv-latest/.test
	.venv-latest/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not spark and not docs" $(OTHER_AGES) $(TESTS)

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "skhier needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.plot: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[plot]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.plot

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@ $(VENV)/.plot

$(VENV)/.release: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[release]"
	@touch $@ $(VENV)/.plot

.venv-oldest/.test: pyproject.toml | $(VENV)/.release
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e ".[test]"
	@touch $@

.venv-latest/.test: pyproject.toml | $(VENV)/.release
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-latest
	$(BIN)/uv pip install --quiet --python .venv-latest/bin/python --prerelease allow -e ".[test]"
	@touch $@

$(VENV)/.spark: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,spark]" "pyspark==4.0.*"
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-latest dist docs/_build docs/api docs/gallery .jax_cache .mypy_cache .pytest_cache .ruff_cache demo_output
