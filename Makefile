# One command each: demo (set up and run the main job), bench (our engine's speed), faults (an hour), test, check, format, site (the pages).
# PIP_OPTIONS goes to every pip install: an index with CPU builds of torch, say
#   make demo PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_OPTIONS ?=
BENCH_OPTIONS ?=
COMMANDS_OPTIONS ?=
FAULTS_OPTIONS ?= --long
VENV := .venv
BIN := $(VENV)/bin
PYTEST = HF_HUB_OFFLINE=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder
CODE := bench methods tasks tests
PAGES := '*.md' '*.svg' '*.png' '*.csv' '*.tex' '*.txt' '*.toml' '*.cff' '*.css' LICENSE bench methods tasks

.PHONY: demo bench faults test test-slow check format site install clean

demo: $(VENV)/.run
	$(BIN)/python -m bench run --methods msa,npo --task muse-books

bench: $(VENV)/.dev
	$(BIN)/python -m tests.speed.measuring $(BENCH_OPTIONS)
	$(BIN)/python -m tests.speed.commands $(COMMANDS_OPTIONS)
	$(BIN)/python -m tests.speed.demo
	$(BIN)/python -m tests.speed.training
	$(BIN)/python -m tests.speed.arithmetic --parameters 0.31e9 --repeats 5

faults: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(FAULTS_OPTIONS)

test: $(VENV)/.dev
	$(PYTEST) -m "not slow" $(PYTEST_OPTIONS)

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow $(PYTEST_OPTIONS)

check: $(VENV)/.dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/python -m bench rescore --from results
	$(BIN)/python -m bench leaderboard --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

site: $(VENV)/.docs
	rm -rf build/pages && mkdir -p build/pages
	git ls-files -z --cached --others --exclude-standard -- $(PAGES) | tar --null -T - -cf - | tar -xf - -C build/pages
	$(BIN)/mkdocs build --strict -f docs/mkdocs.yml

install: $(VENV)/.run

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV)
