# Each target makes the environment it needs:  make quickstart   make test   make bench
# PYTHON chooses the interpreter (3.11 or newer), EXTRAS adds one of pyproject.toml's extras (make quickstart EXTRAS=cuda).

PYTHON  ?= python3
VENV    ?= .venv
BENCH   ?= .venv-bench
EXTRAS  ?=
WORKERS ?= 2
ARGS    ?=
# An index that holds torch's CPU build, a tenth of the default one in size: make bench TORCH_INDEX=...
TORCH_INDEX ?=
TORCH   = $(shell sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)

comma := ,
PIP     = -m pip --disable-pip-version-check --no-input install --quiet --progress-bar off
BIN     = $(VENV)/bin
# One stamp for each set of extras; written last, so that a failed or interrupted install leaves none.
RUN     = $(VENV)/.installed-run$(addprefix -,$(EXTRAS))
DEV     = $(VENV)/.installed-dev$(addprefix -,$(EXTRAS))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test aot bench lint format notebooks install clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1@\2/p' Makefile | tr '@' '\t' | expand -t 20

quickstart: $(RUN)  ## trains a small Gated DeltaNet to recall and reports on it (runs/quickstart)
	$(BIN)/python train.py configs/quickstart.py
	$(BIN)/python eval.py runs/quickstart

test: $(DEV)  ## the whole test suite; ARGS="-m 'not slow'" adds arguments of pytest
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

# The tests marked `aot`, which skip in `make test` where the compilers are missing. Python 3.12 or newer has both.
aot:  ## programs compiled for TPUs and GPUs on a host that has neither; installs the compilers
	@$(MAKE) --no-print-directory install EXTRAS=aot
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m aot $(ARGS)

bench: $(BENCH)/.installed-bench  ## speed and memory against peers; ARGS="op" chooses
	$(BENCH)/bin/python -m benchmarks $(ARGS)

lint: $(DEV)  ## ruff and pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV)  ## formats and sorts imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(DEV)  ## runs every notebook, pictures kept
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb

install: $(DEV)  ## the environment of the developers

clean:  ## removes environments and caches, keeps runs
	rm -rf $(VENV) $(BENCH) .jax_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment counts once its pip runs. It is made anew when a make was stopped halfway.
define make_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: memjax needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1); choose one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(1) with $$($(PYTHON) --version 2>&1)"
	@$(PYTHON) -m venv --clear $(1) && $(1)/bin/python -m pip --version >/dev/null || { \
	  echo "error: '$(PYTHON) -m venv $(1)' failed; on Debian and Ubuntu the package python3-venv is needed" >&2; exit 1; }
	@touch $@
endef

$(VENV)/.made:
	$(call make_environment,$(VENV))

$(BENCH)/.made:
	$(call make_environment,$(BENCH))

$(RUN): $(VENV)/.made pyproject.toml
	@echo "installing memjax into $(VENV): some minutes the first time"
	@$(BIN)/python $(PIP) -e '.$(addsuffix ],$(addprefix [,$(EXTRAS)))'
	@touch $@

$(DEV): $(VENV)/.made pyproject.toml
	@echo "installing memjax and its tools into $(VENV): some minutes the first time"
	@$(BIN)/python $(PIP) -e '.[dev$(addprefix $(comma),$(EXTRAS))]'
	@touch $@ $(RUN)

$(BENCH)/.installed-bench: $(BENCH)/.made pyproject.toml
	@echo "installing memjax, torch and transformers into $(BENCH): some minutes the first time"
	@$(BENCH)/bin/python $(PIP) $(addprefix --index-url ,$(TORCH_INDEX)) $(TORCH)
	@$(BENCH)/bin/python $(PIP) -e '.[bench]'
	@touch $@
