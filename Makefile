.DEFAULT_GOAL := programs
PYTHON := .venv/bin/python3
SOURCES := src tests scripts

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

programs: ## (the default) each program as one runnable file, in dist/bin
	scripts/setup run
	$(PYTHON) scripts/programs.py dist/bin

# make bin/containerd-shim: one of them, under this name or the one it stands for; bin/ itself holds the launchers of the sources.
bin/%: FORCE
	scripts/setup run
	$(PYTHON) scripts/programs.py dist/bin $*

install: ## .venv with every program in .venv/bin
	scripts/setup run
	.venv/bin/pip install -q --no-deps --force-reinstall .

demo: ## ./demo: a container from a pulled image, end to end
	./demo

test: ## ./test: every test, as root
	./test

test-unit: ## unit tests only; no root, no network
	scripts/setup test
	$(PYTHON) -m pytest tests/unit -q

test-runtimes: ## the runtime's integration tests on Debian's runc and on pyrunc
	scripts/setup test
	scripts/peers all
	for runtime in runc pyrunc; do \
	  RUNTIME=$$runtime scripts/isolated $(PYTHON) -m pytest tests/integration/runtime -q || exit 1; \
	done

test-vm: ## the runtime's tests in a virtual machine with cgroup v2 and AppArmor, on runc and on pyrunc, about an hour
	scripts/setup test
	scripts/peers all
	scripts/peers vm
	$(PYTHON) -m tests.vm

sweep: ## the long runs of tests/sweep in full, about half an hour: kills at every call, thousands of cycles
	scripts/setup test
	scripts/peers all
	SWEEP=full scripts/isolated $(PYTHON) -m pytest tests/sweep -v -o faulthandler_timeout=0

fuzz: ## every field of a container's config left out, of another type or out of range, a minute
	scripts/setup test
	scripts/peers all
	FUZZ=all scripts/isolated $(PYTHON) -m pytest tests/integration/runtime/test_any_config.py -q

check: ## format, lint, types, import contracts, spelling, size gate, generated files
	scripts/setup check
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/mypy
	PYTHONPATH=src .venv/bin/lint-imports
	.venv/bin/codespell src tests scripts docs *.md
	$(PYTHON) scripts/size_gate.py
	$(PYTHON) scripts/protos.py check
	$(PYTHON) scripts/tree.py check

bench: ## ours and the installed peers in turn in one run, with ratios: make bench ARGS="--svg FILE"
	scripts/setup test
	scripts/peers all
	scripts/isolated $(PYTHON) -m tests.bench $(ARGS)

protos: ## regenerate lib/api from its .proto files
	scripts/setup check
	$(PYTHON) scripts/protos.py code

aliases: ## links of the classic and upstream names to our programs: make aliases DIR=/some/bin
	@test -n "$(DIR)" || { echo "usage: make aliases DIR=/some/bin" >&2; exit 2; }
	scripts/aliases "$(DIR)"

units: ## systemd units for this checkout's daemon, or for PROGRAM=/some/pycontainerd: make units DIR=/etc/systemd/system
	@test -n "$(DIR)" || { echo "usage: make units DIR=/etc/systemd/system [PROGRAM=/some/pycontainerd]" >&2; exit 2; }
	scripts/units "$(DIR)" $(PROGRAM)

.PHONY: FORCE help programs install demo test test-unit test-runtimes test-vm sweep fuzz check bench protos aliases units
