# `make demo` and `make test` are all the set-up there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?=
OUT ?=
BENCH := --benchmark-columns=median,iqr,rounds --benchmark-group-by=group

.PHONY: demo test test-all bench lint clean

demo: $(VENV)/.ready-demo
	@$(BIN)/shardcam demo $(if $(SOURCE),"$(SOURCE)") $(if $(OUT),--out "$(OUT)")

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q

test-all: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q -m "slow or not slow"

bench: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks/test_kernels.py $(BENCH)
	$(BIN)/python -m pytest -q benchmarks/test_pipeline.py $(BENCH)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

# demo: what make demo needs. dev: that, and what the tests need.
$(VENV)/.ready-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
		(3, 10) <= v <= (3, 11) or sys.exit("shardcam needs Python 3.10 or 3.11, not %d.%d: make PYTHON=python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[cpu,demo]"
	@$(BIN)/python -m jobs.system
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-demo
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[cpu,demo,dev]"
	@touch $@
