# make demo   opens the first notebook in JupyterLab        make test   checks everything
# Both create .venv and install what they need; Python >= 3.10 and Node >= 20 have to be there.
# The rest are single steps of these two: see `make help`.

SHELL := bash
VENV := .venv
PY := $(VENV)/bin/python
RESULTS := build/test-results
BUNDLE := dynamite_widget/static/widget.js
JS_SOURCES := $(shell find js/src -type f 2>/dev/null) $(wildcard js/*.json js/*.mjs)
WORKERS ?= logical
DEMO_NOTEBOOK ?= notebooks/01_quickstart.ipynb
NPM_CI := npm ci --ignore-scripts --no-audit --no-fund

.NOTPARALLEL:
.PHONY: help demo test setup lint format js test-js test-fast test-slow test-notebooks test-browser \
	browser clean-results summary clean

help:
	@echo "make demo            install, then open JupyterLab on $(DEMO_NOTEBOOK) (NO_BROWSER=1: only serve)"
	@echo "make test            everything below that checks something"
	@echo "make setup           .venv with the development tools"
	@echo "make lint            ruff, formatting, mypy"
	@echo "make format          let ruff and biome rewrite the sources"
	@echo "make js              build the front end"
	@echo "make test-js         types, lint and unit tests of the front end"
	@echo "make test-fast       Python tests that need seconds (WORKERS=n for n processes)"
	@echo "make test-slow       the slow ones: large networks, the built wheel"
	@echo "make test-notebooks  run every notebook"
	@echo "make test-browser    a real browser on a real JupyterLab"
	@echo "make browser         find or install Chromium for that"
	@echo "make clean           remove what was built (keeps .venv)"

demo: $(VENV)/.stamp-demo $(BUNDLE)
	$(VENV)/bin/jupyter lab $(if $(NO_BROWSER),--no-browser) \
		$$([ "$$(id -u)" != 0 ] || echo --allow-root) $(DEMO_NOTEBOOK)

test: setup clean-results lint test-js test-fast test-slow test-notebooks test-browser summary

# --- set-up -------------------------------------------------------------------------------------

setup: $(VENV)/.stamp-dev $(BUNDLE)

$(VENV)/.stamp-dev: pyproject.toml hatch_build.py js/package-lock.json
	@.ci/setup dev
	@touch $(VENV)/.stamp-demo $@

$(VENV)/.stamp-demo: pyproject.toml hatch_build.py js/package-lock.json
	@.ci/setup demo
	@touch $@

js: $(BUNDLE)

js/node_modules/.package-lock.json: js/package-lock.json
	cd js && $(NPM_CI)
	@touch $@

$(BUNDLE): js/node_modules/.package-lock.json $(JS_SOURCES)
	cd js && npm run build
	@touch $@

browser:
	@.ci/find-browser --install

# --- checks -------------------------------------------------------------------------------------

lint: $(VENV)/.stamp-dev
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

format: $(VENV)/.stamp-dev js/node_modules/.package-lock.json
	$(PY) -m ruff check --fix
	$(PY) -m ruff format
	cd js && npm run --if-present format

test-js: $(BUNDLE)
	cd js && npm run --if-present typecheck
	cd js && npm run --if-present lint
	cd js && npm run --if-present test
	cd js && npm run --if-present size

# $(call pytest,NAME,OPTIONS) runs one part of the suite and keeps its output for the summary.
define pytest
	@printf '\n=== %s tests ===\n' $(1)
	@mkdir -p $(RESULTS)
	set -o pipefail; $(PY) -m pytest $(2) 2>&1 | tee $(RESULTS)/$(1).log
endef

# By file, so that a network that several tests of a file share is built once.
test-fast: $(VENV)/.stamp-dev $(BUNDLE)
	$(call pytest,fast,-m "not slow and not browser" -n $(WORKERS) --maxprocesses 4 --dist loadfile)

test-slow: $(VENV)/.stamp-dev $(BUNDLE)
	$(call pytest,slow,-m "slow and not browser" --durations 10 --timeout 1200)

test-notebooks: $(VENV)/.stamp-dev $(BUNDLE)
ifneq ($(wildcard notebooks/*.ipynb),)
	$(call pytest,notebook,--nbmake --nbmake-timeout 600 --timeout 900 -W default notebooks)
endif

test-browser: $(VENV)/.stamp-dev $(BUNDLE)
ifneq ($(wildcard tests/browser/test_*.py),)
	@chromium=$$(.ci/find-browser --install) || true; \
	if [ -z "$$chromium" ] && [ "$$DYNAMITE_REQUIRE_BROWSER" = 1 ]; then exit 1; fi; \
	if [ -n "$$chromium" ]; then echo "Browser: $$chromium"; fi
	@# A browser on a busy machine may miss a moment: what failed gets one more chance, alone.
	@printf '\n=== browser tests ===\n'; mkdir -p $(RESULTS); set -o pipefail; \
	$(PY) -m pytest -m browser --durations 5 2>&1 | tee $(RESULTS)/browser.log || { \
		printf '\n=== browser tests that failed, once more ===\n'; \
		$(PY) -m pytest -m browser --last-failed --last-failed-no-failures none 2>&1 \
			| tee $(RESULTS)/browser.log; }
endif

clean-results:
	@rm -rf $(RESULTS)

summary:
	@printf '\n=== all parts passed ===\n'
	@cd $(RESULTS) && for log in *.log; do printf '%-9s %s\n' "$${log%.log}" "$$(tail -n 1 "$$log")"; done

clean:
	rm -rf build dist dynamite_widget/static/*.js dynamite_widget/static/*.css js/dist js/coverage \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis
