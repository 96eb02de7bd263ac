# make demo    set up and run the main job          make verify  long physics and picture checks (up to an hour)
# make test    set up and run the tests             make bench   speed and memory, beside named peers
# make lint    ruff and pyright                     make train   repeat every training and print its tables
PYTHON ?= python3
BIN := .venv/bin
SHOT ?= apartment_block
RUN_ARGS ?=

.PHONY: demo preview test lint verify bench train clean setup dev

demo: setup
	$(BIN)/demolish run $(SHOT) $(RUN_ARGS)

preview: setup
	$(BIN)/demolish run $(SHOT) --preview $(RUN_ARGS)

setup: .venv/.installed

.venv/.installed: pyproject.toml scripts/system_packages.sh
	PYTHON=$(PYTHON) sh scripts/system_packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

dev: .venv/.dev

.venv/.dev: .venv/.installed scripts/torch_cpu.py
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	$(BIN)/python scripts/torch_cpu.py
	touch $@

test: dev
	$(BIN)/python -m pytest -m "not slow" -rs $(TEST_ARGS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

verify: dev
	$(BIN)/python -m scripts.verify

bench: dev
	$(BIN)/python -m bench

train: dev
	$(BIN)/python -m pipeline.train

clean:
	rm -rf .venv build *.egg-info
