# GNU make 3.81 or later, POSIX sh. `make` lists the targets.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# `make lock LOCK_FLAGS=--upgrade` takes the newest versions that the ceilings allow.
LOCK_FLAGS ?=

# Where it is set, every process compiles every import again: `import mlflow` takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long check format wheel bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: $(STAMP) ## create .venv from requirements.lock, fetch Spark's jars, find Java
	@version='import sys; print(sys.version_info[:2])'; [ -z '$(PYTHON)' ] || \
	  [ "$$('$(PYTHON)' -c "$$version")" = "$$($(BIN)/python -c "$$version")" ] || \
	  echo "$(VENV) has another Python, and keeps it: make clean, then make setup PYTHON=$(PYTHON)" >&2
	@$(BIN)/python -m lakehouse.engines.runtime

demo: setup ## score the example data from end to end
	@$(BIN)/lakehouse demo

# Two processes, each with a Spark session of its own: more would want more memory than a laptop has.
test: setup ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not long'

test-long: setup ## run the tests that take long
	@LAKEHOUSE_LONG_TESTS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "long or seeds"

check: $(STAMP) ## lint, formatting, types, import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy lakehouse
	@$(BIN)/lint-imports

format: $(STAMP) ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

wheel: $(STAMP) ## build dist/*.whl, without network
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist >build.log 2>&1 || { cat build.log >&2; exit 1; }
	@rm -rf build build.log
	@ls dist/*.whl

# The results go to tests/benchmarks/results; what single features cost is printed.
bench: setup ## run the benchmark in 5 minutes; with FULL=1 all of it, in 40
ifdef FULL
	@$(BIN)/python -m tests.benchmarks --full
	@$(BIN)/python -m tests.benchmarks.checks --rows 500000 --turns 1
	@$(BIN)/python -m tests.benchmarks.challengers --rows 500000 --turns 1 --only pass
	@$(BIN)/python -m tests.benchmarks.isolated --rows 500000 --turns 1 --engines local
	@$(BIN)/python -m tests.benchmarks.many_models --rows 1000000 --turns 1 --engine local
	@$(BIN)/python -m tests.benchmarks.snowflake --rows 500000 --turns 1
else
	@$(BIN)/python -m tests.benchmarks
endif

COMPILE := uv pip compile --quiet --no-config --universal --generate-hashes --fork-strategy fewest --python-version 3.11 \
  --custom-compile-command 'make lock' pyproject.toml
# What runs where nobody tests: the image has these.
RUNS := $(foreach extra,connect s3 serve signing isolated openlineage prometheus opentelemetry,--extra $(extra))

lock: ## write requirements.lock, and the image's part of it, anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null 2>&1 || { echo 'make lock needs uv: https://docs.astral.sh/uv' >&2; exit 1; }
	$(COMPILE) --all-extras $(LOCK_FLAGS) -o requirements.lock
	$(COMPILE) $(RUNS) --constraint requirements.lock -o conf/deploy/docker/requirements.lock

clean: ## remove everything that make made here
	rm -rf $(VENV) build build.log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf spark-warehouse metastore_db derby.log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python of 3.11 to 3.13 that really runs: version managers put names on PATH that don't.
# Without uv it must be able to make a virtual environment, too (Debian keeps ensurepip in a package of its own); uv
# itself is then fetched by pip, which takes four minutes where uv takes seconds. Where that fails, pip does it all.
$(STAMP): requirements.lock pyproject.toml
	@set -e; rm -f $(STAMP); \
	if command -v uv >/dev/null 2>&1; then with=uv; need=sys; else with=pip; need=sys,ensurepip; fi; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
	  found=; \
	  for name in $(if $(PYTHON),'$(PYTHON)',python3 python3.13 python3.12 python3.11); do \
	    found=$$("$$name" -c "import $$need; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit(1); print(sys.executable)" \
	      2>/dev/null) && break; found=; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "no Python 3.11, 3.12 or 3.13 among $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11)" \
	      "(modules needed: $$need): install one or name it with make PYTHON=..." >&2; exit 1; \
	  fi; \
	  rm -rf $(VENV); \
	  echo "creating $(VENV) with $$found"; \
	  if [ $$with = uv ]; then uv venv --quiet --python "$$found" $(VENV); else "$$found" -m venv $(VENV); fi; \
	fi; \
	if [ $$with = pip ] && ! $(BIN)/python -c 'import pip' 2>/dev/null; then $(BIN)/python -m ensurepip >/dev/null; fi; \
	pip="$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps"; \
	uv=uv; tools=$(VENV)/.tools; \
	if [ $$with = pip ] && $$pip --only-binary :all: --target $$tools 'uv>=0.9,<1' 2>/dev/null && \
	  $$tools/bin/uv --version >/dev/null 2>&1; then with=uv; uv=$$tools/bin/uv; fi; \
	echo "installing requirements.lock with $$with (seconds to minutes)"; \
	if [ $$with = uv ]; then \
	  $$uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock; \
	  $$uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
	  $$pip --require-hashes --no-compile --requirement requirements.lock; \
	  $$pip --no-build-isolation --editable .; \
	  $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true; \
	fi; \
	rm -rf $$tools; \
	touch $(STAMP)
