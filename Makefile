# One command for each thing people do here. `make run` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is skipped is told with its reason; pictures of what failed stay in build/browser.
BROWSER_OPTIONS := -rfEs --output build/browser --screenshot only-on-failure
# AGAIN=1: a test that failed is run once more, which decides. For machines that may stand still for seconds.
again = $(if $(AGAIN),|| $(BIN)/python -m pytest $(1) -rfEsp --last-failed --last-failed-no-failures none)

.PHONY: run test test-code test-browser check audit demo bench bench-quick webui clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.installed

webui: $(VENV)/.installed  ## build the editor, if its sources have changed
	@$(BIN)/python scripts/webui.py --install-node build

run: $(VENV)/.installed webui  ## start the balancer on 127.0.0.1:8090
	$(BIN)/python -m balancer serve

test: test-code test-browser  ## checks and all tests

test-code: $(VENV)/.installed-dev webui  ## checks and the tests that drive no browser
	scripts/check
	$(BIN)/python -m pytest $(call again,)
	$(BIN)/python scripts/webui.py --install-node test

test-browser: $(VENV)/.installed-dev webui  ## only the tests that drive a browser
	$(BIN)/python -m pytest tests/browser $(BROWSER_OPTIONS) $(call again,tests/browser)

check: $(VENV)/.installed-dev  ## style, types and layers
	scripts/check

audit: $(VENV)/.installed-dev  ## known weaknesses in what is installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[audit]'
	$(BIN)/python scripts/audit.py

demo: $(VENV)/.installed webui  ## a balancer with four fake backends and a light load
	$(BIN)/python scripts/demo.py

FUZZ_SECONDS ?= 60
FUZZ_EXAMPLES ?= 2000
fuzz: $(VENV)/.installed-dev  ## FUZZ_SECONDS for each target, then FUZZ_EXAMPLES of everything
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --timeout 0 tests/fuzz tests/faults/test_differential.py

SOAK_SECONDS ?= 600
soak: $(VENV)/.installed-dev  ## a thousand streams for SOAK_SECONDS: nothing mixed up, nothing leaked, memory flat
	$(BIN)/python -m benchmarks.soak --seconds $(SOAK_SECONDS)

bench: $(VENV)/.installed-dev  ## CPU per request, stream and event, beside other proxies (about eight minutes)
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.proxy

bench-quick: $(VENV)/.installed-dev  ## the same in short: one round, the most telling loads
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.proxy --quick

clean:
	rm -rf $(VENV) dist build webui/dist webui/node_modules .mypy_cache .ruff_cache .pytest_cache
