# Parley: `make` lists the targets. Everything is installed below this directory, from requirements.lock and package-lock.json.
PYTHON ?= python3
ARGS ?=

ENVIRONMENT_READY := .venv/.installed
LOADTESTS_READY := .venv/.installed-loadtests
CLIENT_READY := node_modules/.package-lock.json
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check bench load locust format docs lock clean

help: ## list the targets
	@echo "Parley. Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(ENVIRONMENT_READY) $(CLIENT_READY) ## serve on port 3000, with MongoDB and Valkey embedded unless MONGODB_URL and REDIS_URL are set
	@$(BIN)/python -m server

test: $(ENVIRONMENT_READY) $(CLIENT_READY) ## run all tests; some of them: make test ARGS=tests/test_settings.py
	@$(BIN)/python -m pytest $(ARGS)

check: $(ENVIRONMENT_READY) ## format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(ENVIRONMENT_READY) ## measure and print a table
	@$(BIN)/python -m loadtests.bench $(ARGS)

load: $(LOADTESTS_READY) ## put a server under load: make load ARGS="storm --start-server --plot storm.png"
	@$(BIN)/python -m loadtests $(or $(ARGS),--help)

locust: $(LOADTESTS_READY) ## the same with Locust: make locust ARGS="--headless --users 100 --spawn-rate 20 --run-time 30s"
	@$(BIN)/python -m locust --locustfile loadtests/locustfile.py $(ARGS)

format: $(ENVIRONMENT_READY) ## put the sources into their format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(ENVIRONMENT_READY) ## write the tables of docs/protocol.md and docs/parley.d.ts anew from the sources
	@$(BIN)/python -m server.reference

lock: $(ENVIRONMENT_READY) ## make both locks anew from pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --extra embedded --extra dev --no-header \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --extra loadtests --constraint requirements.lock --no-header \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file requirements-loadtests.lock pyproject.toml

clean: ## remove the environment, the npm packages and all caches, but no data
	rm -rf .venv node_modules build *.egg-info .make
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ENVIRONMENT_READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Parley needs Python 3.11 or newer, $(PYTHON) is not; name another one: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Setting up .venv from requirements.lock, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

# Apart from the rest, because Locust and matplotlib are as big as all of it and only load tests need them.
$(LOADTESTS_READY): requirements-loadtests.lock $(ENVIRONMENT_READY)
	@echo "Adding Locust and matplotlib from requirements-loadtests.lock, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-loadtests.lock
	@touch $@

# Without npm the server is whole, only the page lacks its client library.
$(CLIENT_READY): package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --no-audit --no-fund --loglevel=error && touch $@; \
	else \
		echo "npm is missing: the server starts, but the demo page needs it (on Debian: apt-get install npm)" >&2; \
	fi
