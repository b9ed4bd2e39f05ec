# Every target finds or makes the environment .venv by itself; .ci/venv says how.

PYTHON := .venv/bin/python
TEST_ENV := .venv/.installed-test
DOCS_ENV := .venv/.installed-docs
NOTEBOOKS = $(wildcard notebooks/*.ipynb notebooks/*.md)

.DEFAULT_GOAL := help
.PHONY: help test demo docs bench calibration notebooks lint clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

test: $(TEST_ENV)  ## Run the tests
	@$(PYTHON) -m pytest

demo: $(TEST_ENV)  ## Simulate a small sky, fit it, leave figures and maps in demo/
	@.venv/bin/pymcdust demo --out demo

docs: $(DOCS_ENV)  ## Build the documentation into docs/_build/html
	@rm -rf docs/reference  # pages of modules that are no more
	@$(PYTHON) -m sphinx -E -W --keep-going -q docs docs/_build/html
	@echo "The documentation is in docs/_build/html/index.html"

bench: $(TEST_ENV)  ## Measure the speed
	@$(PYTHON) tests/benchmarks/run.py
	@$(PYTHON) tests/benchmarks/sampling.py
	@$(PYTHON) tests/benchmarks/comparison.py
	@$(PYTHON) tests/benchmarks/ingestion.py
	@$(PYTHON) tests/benchmarks/query.py
	@$(PYTHON) tests/benchmarks/render.py

calibration: $(TEST_ENV)  ## Calibrate samplers and comparisons by simulation, into docs
	@$(PYTHON) tests/benchmarks/calibration.py --write docs
	@$(PYTHON) tests/benchmarks/choice.py --write docs

notebooks: $(DOCS_ENV)  ## Run every notebook, leaving the results in notebooks/_build
	@mkdir -p notebooks/_build
	@for notebook in $(NOTEBOOKS); do \
	    result=notebooks/_build/$$(basename $${notebook%.*}).ipynb; \
	    echo "Running $$notebook, into $$result"; \
	    case $$notebook in \
	        *.md) .venv/bin/mystnb-to-jupyter --overwrite $$notebook $$result ;; \
	        *) cp $$notebook $$result ;; \
	    esac && .venv/bin/jupyter-execute --inplace $$result || exit 1; \
	done

lint: $(TEST_ENV)  ## Check style and format
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check

clean:  ## Remove what was made, except the environment
	rm -rf demo docs/_build docs/reference notebooks/_build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/.installed-%: pyproject.toml
	@.ci/venv $*
