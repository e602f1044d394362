# `make demo` and `make test` do everything on a fresh machine with Python >= 3.11: set up .venv, then the work.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check format schemas clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	# Compiled once here, not again by each of the many processes that the stages and the tests start.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[train,html,cloud,img2dataset,ray,filters,track,dev]' -c constraints.txt
	$(BIN)/python -m compileall -q schemas lcl_data lcl_train pipelines
	touch $@

demo: $(READY)            ## the whole road in about three minutes, offline
	$(BIN)/lcl demo

test: $(READY)            ## every test
	$(BIN)/pytest

check: $(READY)           ## format, lint, types, import contracts, generated schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pipelines.publish --check

format: $(READY)          ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(READY)         ## write schemas/json anew
	$(BIN)/python -m pipelines.publish

clean:
	rm -rf $(VENV) demo runs .mypy_cache .ruff_cache .pytest_cache
