# Both targets set up everything they need on a bare Debian 12 or Ubuntu 24.04 (root, apt, python3).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test check unit integration golden bench test-kernel setup clean
.DEFAULT_GOAL := test

demo: setup  ## compile, bake, measure and boot the basic example
	$(BIN)/tdxc compile examples/qemu_basic.py -o build/demo/mkosi
	$(BIN)/tdxc build examples/qemu_basic.py --tree build/demo/mkosi -o build/demo/image
	$(BIN)/tdxc measure build/demo/image
	$(BIN)/tdxc run build/demo/image --until 'hello from qemu-basic'

test: check unit integration  ## everything, including a real bake and boot

check: setup  ## types and style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks examples

unit: setup  ## what needs neither root nor the network
	$(BIN)/pytest -m "not integration and not kernel" -n auto

integration: setup  ## real mkosi, real systemd, real boots
	$(BIN)/pytest -m integration

golden: setup  ## rewrite the goldens; review the diff
	$(BIN)/pytest -q tests/golden --snapshot-update

bench: setup  ## ratios, each against a baseline in the same run
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/measure.py

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml .ci/setup.sh
	sh .ci/setup.sh $(VENV) $(PYTHON)
	touch $@

clean:
	rm -rf $(VENV) build out
