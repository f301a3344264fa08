# make demo | test | test-slow | test-spark | calibration | lint | bench | clean;  PYTHON=python3.12 VENV=.venv312 for another Python
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN = $(VENV)/bin

.PHONY: demo test test-slow test-spark spark jvm calibration lint bench clean

demo: $(VENV)/.plot
	$(BIN)/python examples/plot_sleepstudy.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not spark"

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
	$(BIN)/python tests/statistical/response_calibration.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py $(BENCH)

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

$(VENV)/.spark: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,spark]"
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	@touch $@

clean:
	rm -rf $(VENV) .jax_cache .mypy_cache .pytest_cache .ruff_cache demo_output
