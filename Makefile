# Two commands do everything: `make run` shows the function at work, `make test` proves it.
# Both set up .venv by themselves; all they need is make and Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKOV := $(VENV)/checkov
EVENT ?= events/http.json
SECRET ?= local/webhook-secret.json
# Nothing younger than a week, by when most malicious releases are gone; wheels only, so that no setup.py runs.
LOCK := $(BIN)/uv pip compile --upgrade --exclude-newer P7D --only-binary :all: --generate-hashes \
  --quiet --system-certs --no-emit-index-url --no-emit-find-links --no-header

.DEFAULT_GOAL := help
.PHONY: help run serve stand-ins source build test fuzz mutate soak bench bench-sweep lint security release lock clean

help: ## list these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' || true

run: $(VENV)/.ready ## one event through the function, with stand-ins for AWS and Twilio (EVENT=events/….json)
	@$(BIN)/python -m local.run $(EVENT)

serve: $(VENV)/.ready ## the same, staying up as an HTTP endpoint for curl (PORT=8800)
	@$(BIN)/python -m local.serve

stand-ins: $(VENV)/.ready ## only the stand-ins, for sam local (docs/developing.md)
	@$(BIN)/python -m local.stand_ins

source: $(VENV)/.ready ## what a source makes of an event (SECRET=….json EVENT=….json, docs/sources.md)
	@PYTHONPATH=src $(BIN)/python -m local.source $(SECRET) $(EVENT) $(if $(SOURCE),--source $(SOURCE)) $(if $(BASE_URL),--base-url $(BASE_URL))

build: $(VENV)/.ready ## what is deployed, the same for both functions: .aws-sam/build
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/sam build

test: $(VENV)/.ready ## the tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

fuzz: $(VENV)/.ready ## fuzz every entry point with hypothesis (INPUTS=2000 for each; minutes)
	@INPUTS=$(INPUTS) $(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz --timeout=0 --show-capture=no --numprocesses 2 --dist load

mutate: $(VENV)/.ready ## change the package in 200 random places; list what no test notices (half an hour; MUTANTS=50 SEED=1)
	@MUTANTS=$(MUTANTS) SEED=$(SEED) $(BIN)/python -m tests.mutate

soak: $(VENV)/.ready ## the stack's promises while everything around it fails (COMMANDS=5000 SEED=1; minutes)
	@$(BIN)/python -m tests.soak $(if $(COMMANDS),--commands $(COMMANDS)) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.ready ## start, warm path, batch and size, against two references (a quarter of an hour)
	@$(BIN)/python -m benchmarks

bench-sweep: $(VENV)/.ready ## the sweep against a loop with Twilio's SDK, and how lists grow
	@$(BIN)/python -m benchmarks.sweep

lint: $(VENV)/.ready ## formatting, lint, types, the template and the workflows; edits nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml docs/examples/*.yaml
	$(BIN)/sam validate --lint
	$(BIN)/zizmor --offline --quiet .github

security: $(CHECKOV)/.ready ## what checkov has against the template
	@$(CHECKOV)/bin/checkov --config-file .checkov.yaml --file template.yaml

release: $(VENV)/.ready ## what a release holds, built twice and compared: dist
	@$(BIN)/python .ci/release.py

lock: $(VENV)/.ready ## take the newest versions that fit, into the lock files
	$(LOCK) --universal --python-version 3.11 --no-strip-extras requirements/dev.in -o requirements/dev.txt
	$(LOCK) --python-version 3.11 -c requirements/dev.txt requirements/function.in -o src/requirements.txt
	$(LOCK) --python-version 3.13 -c requirements/dev.txt requirements/reference_sdk.in -o requirements/reference_sdk.txt
	$(LOCK) --python-version 3.13 -c requirements/dev.txt requirements/reference_least.in -o requirements/reference_least.txt
	$(LOCK) --universal --python-version 3.11 requirements/checkov.in -o requirements/checkov.txt
	$(LOCK) --universal --python-version 3.11 -c requirements/dev.txt requirements/opentelemetry.in -o requirements/opentelemetry.txt
	$(LOCK) --universal --python-version 3.11 requirements/opentelemetry-0.60.in -o requirements/opentelemetry-0.60.txt
	grep -A999 '^uv==' requirements/dev.txt | sed '2,$${/^[a-z]/,$$d;}' > requirements/uv.txt

clean: ## remove what the other targets made
	rm -rf $(VENV) .aws-sam dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .mutation

$(VENV)/.ready: requirements/uv.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 …")'
	@echo "Setting up $(VENV) (once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

# It pins much of what it needs, and so cannot live with the others.
$(CHECKOV)/.ready: $(VENV)/.ready requirements/checkov.txt
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CHECKOV)
	@$(BIN)/uv pip install --quiet --system-certs --python $(CHECKOV)/bin/python --require-hashes -r requirements/checkov.txt
	@touch $@
