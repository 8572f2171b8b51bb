# Everything that a person or the CI calls. `make run` and `make test` set up what they need themselves.
# TORCH_INDEX_URL names another index for torch, for example PyTorch's own for the small CPU build.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# vLLM has an environment of its own: its pins and Prefect's exclude each other. ALIGNFLOW_VLLM_PYTHON names another interpreter that has it.
VLLM_VENV := .venv-vllm
VLLM_LOCK := requirements/vllm-$(if $(wildcard /dev/nvidiactl),cuda,cpu).lock.txt
# Tests run in this many processes; each wants a core and about 2 GiB.
TEST_PROCESSES ?= 2
# The slowest tests are told after each run: what took long is what may be moved to `test-long`.
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --durations=60 --durations-min=5
# pip compiles what it installs on one core: 317 MB of source, more than a minute. `compileall` does it afterwards on all cores.
PIP_OPTIONS := --disable-pip-version-check -q --no-compile -c constraints.txt
VLLM_PIP := --disable-pip-version-check -q --no-compile
export DO_NOT_TRACK = 1
# Threads that spin take the core from the other process.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: run test test-system test-long check fmt tables docs bench setup vllm clean

run: setup
	$(BIN)/alignflow run recipes/quickstart.yaml

test: check
	$(PYTEST) -m "not system and not long" --dist worksteal

test-system: setup vllm
	$(PYTEST) -m "system and not long" --dist loadfile --no-loadscope-reorder

test-long: setup
	$(PYTEST) -m long --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m codespell_lib README.md CONTRIBUTING.md CHANGELOG.md docs alignflow recipes
	$(BIN)/python -m alignflow.tasks.keys.versions

fmt: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

tables: setup
	$(BIN)/python docs/make_tables.py
	$(BIN)/python docs/make_scale.py
	$(BIN)/python docs/make_cases.py

# The site stands in build/site. mkdocs is in no other environment, and no test needs it.
docs: tables $(VENV)/.docs-installed
	$(BIN)/python -m mkdocs build --strict --quiet

$(VENV)/.docs-installed: $(VENV)/.installed
	$(BIN)/pip install $(PIP_OPTIONS) -e ".[docs]"
	touch $@

bench: setup
	$(BIN)/python benchmarks/no_change.py

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV): this takes some minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX_URL
	$(BIN)/pip install $(PIP_OPTIONS) --index-url $(TORCH_INDEX_URL) torch
endif
	$(BIN)/pip install $(PIP_OPTIONS) -e ".[dev]"
	$(BIN)/python -c "import compileall, site; [compileall.compile_dir(place, quiet=2, workers=0) for place in site.getsitepackages()]"
	touch $@

ifdef ALIGNFLOW_VLLM_PYTHON
vllm:
	$(ALIGNFLOW_VLLM_PYTHON) -I -c $(VLLM_WORKS)
else
vllm: $(VLLM_VENV)/.installed
endif

# `import vllm` alone is lazy and proves nothing.
VLLM_WORKS := "from vllm import LLM" || { echo "vLLM does not work in that environment: see docs/engines.md" >&2; exit 1; }

$(VLLM_VENV)/.installed: $(VLLM_LOCK)
	@echo "setting up $(VLLM_VENV) from $(VLLM_LOCK): this takes some minutes, once"
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install $(VLLM_PIP) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) "$$(grep ^torch== $(VLLM_LOCK))"
	$(VLLM_VENV)/bin/pip install $(VLLM_PIP) --no-deps -r $(VLLM_LOCK)
	VLLM_NO_USAGE_STATS=1 $(VLLM_VENV)/bin/python -I -c $(VLLM_WORKS)
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) .alignflow
