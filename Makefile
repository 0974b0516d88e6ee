# Everything a person types here. Needs make, Python 3.11 or newer, and the package registries.

PYTHON ?= $(shell if python3.11 -c '' 2>/dev/null; then echo python3.11; else echo python3; fi)

# Another Python that is asked for gets an environment of its own beside `.venv`, which stays as it is.
VERSION_OF = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
ifneq ($(call VERSION_OF,.venv/bin/python),)
ifneq ($(call VERSION_OF,.venv/bin/python),$(call VERSION_OF,$(PYTHON)))
VENV := .venv-$(call VERSION_OF,$(PYTHON))
endif
endif
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
INPUTS := pyproject.toml constraints.txt

# Many tests wait for processes more than they compute, so three at once keep two cores busy.
TEST_WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-recipes test-service check soak faults bench gpu-wheels gpu clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(VENV)/.dev  ## make .venv with everything for development

demo: $(VENV)/.demo  ## train under the supervisor, pause, resume, compare every bit
	@$(BIN)/python examples/demo.py

# Tests start a thousand processes: none of them is to compile our modules again, whatever
# PYTHONDONTWRITEBYTECODE says.
test: $(VENV)/.dev  ## run the tests, all but the long, the GPU and the service ones
	@$(BIN)/python -m compileall -q supervisor trainer_shim tests benchmarks examples
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.dev  ## run format, lint, types and floors
	@.ci/check

soak: $(VENV)/.dev  ## run the long fault-injection tests
	@$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

# HOURS=8: that long, by chance, with a million fuzzed frames. SEED=N: as a run that lost something.
faults: $(VENV)/.dev  ## inject faults into a daemon and its trainings, and see what is lost
	@$(BIN)/python -m tests.faults.campaign $(if $(HOURS),--hours $(HOURS)) $(if $(SEED),--seed $(SEED))

test-recipes: $(VENV)/.dev  ## prove every recipe in examples/recipes
	@$(BIN)/python -m pytest -n 2 -m "soak or not soak" tests/e2e/test_recipes.py $(PYTEST_ARGS)

# REQUIRE_SYSTEMD=1: fail, and do not skip, where no systemd can be booted.
test-service: $(VENV)/.dev  ## install the service in a systemd that is booted for it, and try it
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "soak or service or not soak" tests/systemd $(PYTEST_ARGS)

bench: $(VENV)/.dev  ## run the benchmarks, or those in BENCHMARKS=...
	@$(BIN)/python -m benchmarks $(BENCHMARKS)

# Their Python may be another than ours, so nothing here needs .venv; GPU_PYTHON is whoever starts.
GPU_PYTHON = $(shell for p in $(PYTHON) python3 python3.13 python3.12; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
GPU_DEVICE ?= cuda

gpu-wheels: $(VENV)/.torch  ## gather what a bare GPU server lacks, in gpu-wheels/
	@$(BIN)/python -m benchmarks.gpu.wheels

gpu:  ## measure and test on a real GPU; needs no network and no .venv
	@test -n "$(GPU_PYTHON)" || { echo 'error: no Python 3.11 or newer here' >&2; echo >&2; \
	echo 'hint: name one: make gpu PYTHON=/path/to/python3' >&2; exit 1; }
	@$(GPU_PYTHON) benchmarks/gpu/start.py --device $(GPU_DEVICE) \
	$(if $(filter command environment,$(firstword $(origin PYTHON))),--python $(PYTHON)) $(ROWS)

clean:  ## remove .venv and all that was made here
	@rm -rf .venv .venv-* .bench gpu-wheels .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo-out dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Torch comes first and by itself, with no other option: so pip takes the build that this machine's
# registry prefers. Asked for beside others it may draw gigabytes of CUDA packages.
$(VENV)/.torch: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo 'error: `$(PYTHON)` is not Python 3.11 or newer' >&2; echo >&2; \
	echo 'hint: name one that is: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@echo "setup: $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@echo "setup: torch $(TORCH)"
	@$(PIP) install torch==$(TORCH)
	@touch $@

$(VENV)/.demo: $(VENV)/.torch
	@echo "setup: this package and what the demo needs"
	@$(PIP) install -c constraints.txt -e .[daemon] --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.torch
	@echo "setup: this package and what development needs"
	@$(PIP) install -c constraints.txt -e .[daemon] --group dev
	@touch $(VENV)/.demo $@
