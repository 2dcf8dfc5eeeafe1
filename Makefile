# make quickstart   a better sentiment program on the embedded LM, from nothing
# make test         everything that CI runs
# make bench        what a compile is worth on three small tasks, in some minutes
# make check        format, lint, types, architecture, secrets, known holes of dependencies
# make docs         the site of docs/, in build/docs
# make finetune     what trains the embedded LM (torch), for `progspace compile --finetune` and its tests
# make lock         resolves the development dependencies anew

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODELS := smollm2-135m all-minilm-l6-v2

# pip compiles on one core. (Some packages hold files for other versions of Python, which fail, and matter to nobody.)
compile = $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# A third of the tests' time is waiting: for servers, leases, and processes that are killed.
WORKERS = $$($(BIN)/python -c "import os; print(2 + (os.cpu_count() or 1))")

.PHONY: setup finetune quickstart bench test check scan docs format lock clean

# One stamp for what is installed: made anew when the dependencies change; offline, it is not touched again.
$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade "pip>=24"
	$(BIN)/python -m pip install -qq --no-compile --constraint requirements.lock --editable ".[dev]"
	@$(compile)
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/progspace
	touch $@

setup: $(VENV)/.installed
	@for model in $(MODELS); do $(BIN)/progspace models install $$model || exit 1; done

# Of torch a CPU build is enough: what is installed already is left as it is.
finetune: setup
	$(BIN)/python -m pip install -qq --no-compile --constraint requirements.lock --editable ".[dev,finetune]"
	@$(compile)

quickstart: setup
	@$(BIN)/python -m progspace.benchmarks.quickstart

bench: setup
	@$(BIN)/python -m progspace.benchmarks core --suite quick --results .progspace/quick.jsonl

check: $(VENV)/.installed scan
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

scan: $(VENV)/.installed
	$(BIN)/python .ci/scan.py

# Small matrices take ten times as long where two threads wait for each other, and tests run on all cores as it is.
test: export OPENBLAS_NUM_THREADS := 1
test: setup check
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not embedded" --durations 15
	$(BIN)/python -m pytest -m embedded --durations 15

docs: $(VENV)/.installed
	$(BIN)/python -m sphinx --builder html --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev --extra finetune --no-header --no-annotate \
		--no-emit-package pip --no-emit-index-url --no-emit-find-links --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .progspace build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
