# Start with `make run`, which sends one event through the function, and `make test`.
# You need make and Python 3.11 or newer; each target sets up what it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKOV := $(VENV)/checkov
EVENT ?= events/http.json
# Packages that are at least a week old: most malicious releases are found sooner. Wheels only: no setup.py runs.
LOCK := $(BIN)/uv pip compile --upgrade --exclude-newer P7D --only-binary :all: --generate-hashes \
  --quiet --system-certs --no-emit-index-url --no-emit-find-links --no-header
INSTALL := $(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes

.DEFAULT_GOAL := help
.PHONY: help run serve stand-ins source build test fuzz mutate soak bench bench-sweep lint security release ci hooks lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve source: export PYTHONPATH = src

run: $(VENV)/.run ## send a sample event through the function (EVENT=events/sqs.json VERBOSE=1)
	@$(BIN)/python -m local.run $(EVENT)

serve: $(VENV)/.run ## serve the API and a page to try it (PORT=8800 SECRET=my.json)
	@$(BIN)/python -m local.serve

stand-ins: $(VENV)/.run ## serve the stand-ins for Twilio and AWS, for sam local
	@$(BIN)/python -m local.stand_ins

source: $(VENV)/.run ## show what a source makes of a webhook (SECRET=my.json EVENT=body.json)
	@$(BIN)/python -m local.source $(or $(SECRET),local/webhook-secret.json) $(if $(filter file,$(origin EVENT)),,$(EVENT)) $(if $(SOURCE),--source $(SOURCE)) $(if $(BASE_URL),--base-url $(BASE_URL))

test: $(VENV)/.ready ## run the tests (minutes)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.ready ## check formatting, lint rules, types, template and workflows
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml docs/examples/*.yaml
	$(BIN)/sam validate --lint
	$(BIN)/zizmor --offline --quiet .github

ci: ## run everything that CI runs (10 minutes)
	@.ci/run

hooks: $(VENV)/.ready ## install the pre-commit hooks
	@$(BIN)/pre-commit install

build: $(VENV)/.ready ## build the artifact into .aws-sam/build
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/sam build

release: $(VENV)/.ready ## build a release twice, compare, and write it to dist
	@$(BIN)/python .ci/release.py

security: $(CHECKOV)/.ready ## check the template with checkov
	@$(CHECKOV)/bin/checkov --config-file .checkov.yaml --file template.yaml

fuzz: $(VENV)/.ready ## fuzz every entry point (INPUTS=2000; minutes)
	@INPUTS=$(INPUTS) $(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz --timeout=0 -vv --show-capture=no --numprocesses 2 --dist load

soak: $(VENV)/.ready ## send commands while Twilio and AWS fail (COMMANDS=1500 SEED=1; 4 minutes)
	@COMMANDS=$(COMMANDS) SEED=$(SEED) $(BIN)/python -m tests.soak.run

mutate: $(VENV)/.ready ## list random changes that no test notices (MUTANTS=200 SEED=1; 30 minutes)
	@MUTANTS=$(MUTANTS) SEED=$(SEED) $(BIN)/python -m tests.mutate

bench: $(VENV)/.ready ## measure start, warm path, batches and size (15 minutes)
	@$(BIN)/python -m benchmarks

bench-sweep: $(VENV)/.ready ## measure the sweep and lists of many Executions
	@$(BIN)/python -m benchmarks.sweep

lock: $(VENV)/.ready ## update the lock files
	$(LOCK) --universal --python-version 3.11 --no-strip-extras requirements/dev.in -o requirements/dev.txt
	$(LOCK) --universal --python-version 3.11 --no-strip-extras -c requirements/dev.txt requirements/run.in -o requirements/run.txt
	$(LOCK) --python-version 3.11 -c requirements/dev.txt requirements/function.in -o src/requirements.txt
	$(LOCK) --python-version 3.13 -c requirements/dev.txt requirements/reference_sdk.in -o requirements/reference_sdk.txt
	$(LOCK) --python-version 3.13 -c requirements/dev.txt requirements/reference_least.in -o requirements/reference_least.txt
	$(LOCK) --universal --python-version 3.11 requirements/checkov.in -o requirements/checkov.txt
	$(LOCK) --universal --python-version 3.11 -c requirements/dev.txt requirements/opentelemetry.in -o requirements/opentelemetry.txt
	$(LOCK) --universal --python-version 3.11 requirements/opentelemetry-0.60.in -o requirements/opentelemetry-0.60.txt
	for name in uv aws-sam-cli; do \
	  awk -v "name=$$name==" '/^[a-z]/ { keep = index($$0, name) == 1 } keep' requirements/dev.txt >requirements/$$name.txt; \
	done

clean: ## remove what the other targets made
	rm -rf $(VENV) .aws-sam dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .mutation

# Of aws-sam-cli, make run needs only the Runtime Interface Emulator in its wheel, and none of its dependencies.
$(VENV)/.run: requirements/uv.txt requirements/run.txt requirements/aws-sam-cli.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(INSTALL) -r requirements/run.txt
	@$(INSTALL) --no-deps -r requirements/aws-sam-cli.txt
	@touch $@

$(VENV)/.ready: $(VENV)/.run requirements/dev.txt
	@echo "Setting up the tools for development (once) ..."
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

# checkov pins many dependencies, so it has its own environment.
$(CHECKOV)/.ready: $(VENV)/.run requirements/checkov.txt
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CHECKOV)
	@$(BIN)/uv pip install --quiet --system-certs --python $(CHECKOV)/bin/python --require-hashes -r requirements/checkov.txt
	@touch $@
