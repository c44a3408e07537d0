# `make demo` and `make test` set up all they need on a bare Debian 12 or Ubuntu 24.04 (root, apt, python3, make, git).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
GO := $(abspath $(BIN))/go
export PATH := $(PATH):/usr/sbin:/sbin
# a line for each part of the tests, so that a log shows what came when
say = @printf '\n== %s  %s\n' "$$(date +%H:%M:%S)" $(1)

.PHONY: demo test check unit fuzz integration golden bench test-kernel setup clean
.DEFAULT_GOAL := test
.NOTPARALLEL:  # the parts of the tests come in order, and each uses all processors itself

demo: $(VENV)/.ready  ## compile, bake, measure and boot the basic example
	@.ci/demo.sh $(BIN)/tdxc

test: check unit fuzz integration  ## everything, including a real bake and boot

check: setup  ## types and style
	$(call say,"style and types")
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks examples
	cd runtime/guest && files=$$($$($(GO) env GOROOT)/bin/gofmt -l .) && if [ -n "$$files" ]; then echo "gofmt: $$files"; exit 1; fi
	cd runtime/guest && $(GO) vet ./...

unit: setup  ## what needs neither root nor the network
	$(call say,"unit tests (also properties and goldens)")
	$(BIN)/pytest -q -m "not integration and not kernel" -n auto --durations=10
	$(call say,"unit tests of the program inside of the guest")
	cd runtime/guest && $(GO) test ./...
	cd runtime/guest && CGO_ENABLED=1 $(GO) test -race -run AtOnce ./internal/quote ./internal/secrets

FUZZ_SECONDS ?= 60
fuzz: setup  ## the guest's parsers and servers: what the host, the network and disks send
	$(call say,"fuzzing of the program inside of the guest")
	cd runtime/guest && GO=$(GO) ./fuzz.sh $(FUZZ_SECONDS)

integration: setup  ## real mkosi, real systemd, real boots
	$(call say,"integration tests (real bakes and boots)")
	$(BIN)/pytest -v -m integration --durations=20 -n 2 --dist loadfile

test-kernel: setup  ## build whole kernels; half an hour or more
	$(BIN)/pytest -v -m kernel

golden: setup  ## rewrite the goldens; review the diff
	$(BIN)/pytest -q tests/golden --snapshot-update

bench: setup  ## ratios, each against a baseline in the same run
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/measure.py

setup: $(VENV)/.ready-dev

$(VENV)/.ready: pyproject.toml .ci/setup.sh
	@.ci/setup.sh $(VENV) $(PYTHON)
	@touch $@

$(VENV)/.ready-dev: pyproject.toml .ci/setup.sh
	@.ci/setup.sh $(VENV) $(PYTHON) dev
	@touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) build out
