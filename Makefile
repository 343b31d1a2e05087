# Every command a person needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run test test-long rules rules-off chaos lint format scan sbom bench bench-inference lock messages

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run:  ## install what is needed, then serve everything on http://127.0.0.1:18789
	@$(PYTHON) scripts/install.py run
	@exec $(BIN)/python manage.py up

test:  ## all tests that take at most ten minutes
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python scripts/servers.py scripts/test.sh

test-long:  ## the rest
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python scripts/servers.py $(BIN)/python -m pytest -m long

rules:  ## run the tests of the security rules, write their table into docs/security.md (ARGS="--long", ARGS="--only S2")
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python scripts/servers.py $(BIN)/python -m scripts.rules $(ARGS)

rules-off:  ## switch each security rule off in a copy: its test must notice (ONLY=N4: one rule)
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python scripts/servers.py $(BIN)/python -m scripts.rules_off $(if $(ONLY),--only $(ONLY))

chaos:  ## the kill matrix, 45 minutes: kills every process under load, reports in docs/benchmarks/chaos.md
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python scripts/servers.py $(BIN)/python -m tests.chaos --report docs/benchmarks/chaos $(CHAOS)

lint:  ## format, rules, types, import contracts, missing migrations
	@$(PYTHON) scripts/install.py development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run --settings clawdbot_site.settings.test

format:  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

scan:  ## known holes in packages, dangerous code, secrets in the tree: what servers do every week
	@$(PYTHON) scripts/install.py development
	@deploy/scan.sh

sbom:  ## lists of all packages for others: var/sbom/clawdbot-*.cdx.json (CycloneDX)
	@$(PYTHON) scripts/install.py development
	@deploy/scan.sh sbom var/sbom

bench:  ## measure the message path; JSON, table and plot to docs/benchmarks/ (15 minutes on a quiet machine)
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python -m bench.path

bench-inference:  ## measure the local engine; to docs/benchmarks/ (CPU, 30 minutes; on a GPU: ARGS="--device cuda")
	@$(PYTHON) scripts/install.py development
	@$(BIN)/python -m bench.inference $(ARGS)

lock:  ## raise the pinned versions in requirements/*.txt
	$(BIN)/python -m pip install -q uv
	cd requirements && for name in base gpu production traces development scan; do \
	  ../$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-strip-extras \
	    --no-emit-package torch --upgrade -q $$name.in -o $$name.txt; done

messages:  ## rewrite the catalogues of translations
	@$(PYTHON) scripts/install.py development
	$(BIN)/python scripts/translations.py
