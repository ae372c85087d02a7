# Every target sets up .venv itself: when it is missing, or older than pyproject.toml or constraints.txt.
# After that nothing here needs a network.

PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
CONSTRAINTS ?= constraints.txt
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)

# One thread per process: sums are then taken in one order, and results repeat bit for bit.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MPLBACKEND := Agg

.DEFAULT_GOAL := help
.PHONY: help check verify test steady coverage wheel constraints lint format fuzz thorough trainers notebooks launch course-test lab book claims chapter book-test book-times paper pdf clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# The package builds without isolation, so that pip fetches nothing when all is installed.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once, some minutes)"
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

check: lint verify test  ## what most changes must pass: lint, verify and test

verify: $(READY)  ## train the reference and the torch optimizer side by side and compare them
	$(BIN)/kfqn verify --out out/verify

test: $(READY)  ## the whole suite; WORKERS=n processes; outcomes in out/junit.xml
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --junitxml out/junit.xml $(ARGS)

steady: $(READY)  ## the suite in random orders, other folders, under load, from a wheel: same results? ARGS: options
	$(BIN)/python tests/steady.py $(ARGS)

coverage: $(READY)  ## the suite with branch coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term $(ARGS)

wheel: $(READY)  ## build wheel and sdist, install each outside of the checkout and use it; ARGS: --versions newest
	$(BIN)/python tests/wheel.py $(ARGS)

constraints: $(READY)  ## is constraints.txt stale? ARGS=--write writes the newest versions
	$(BIN)/python tests/constraints.py $(ARGS)

lint: $(READY)  ## ruff (rules and format), pyright, how complete the public types are, and files for code hosts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python tests/complete_types.py 0.95
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff

format: $(READY)  ## let ruff repair and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(READY)  ## random networks on reference and torch for SECONDS (300); failing cases become tests
	$(BIN)/python -m kfqn_ref.testing.fuzz --seconds $(or $(SECONDS),300)

thorough: $(READY)  ## every law on 100,000 cases, and correct alternatives on 10,000; a stopped run goes on
	$(BIN)/python -m kfqn_ref.testing.thorough --out out/thorough $(ARGS)
	$(BIN)/python tests/testing/no_false_alarm.py --out out/thorough

trainers: $(READY)  ## KFQN in Lightning, Accelerate, skorch and transformers: installs them, runs their tests
	@$(PIP) --no-build-isolation --editable '.[dev,trainers]'
	$(BIN)/python -m pytest tests/trainers $(ARGS)

notebooks: $(READY)  ## run the read-along notebooks and keep their outputs
	env -u MPLBACKEND $(BIN)/jupytext --to ipynb --execute notebooks/[0-9]*.py

launch:  ## badges and files for Colab and Binder: make launch PROJECT_URL=https://...; an empty one removes them
	$(PYTHON) notebooks/launch.py "$(PROJECT_URL)"

course-test: $(READY)  ## grade a class of difficult submissions in the sandbox; minutes
	$(BIN)/python -m pytest tests/course -m corpus --timeout 1200 $(ARGS)

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

# The book: its tools, and MathJax from npm (no page asks the network for anything).
BOOK_READY := $(VENV)/.book-ready
BOOK_FLAGS ?= -W -n --keep-going

$(BOOK_READY): $(READY) book/package-lock.json book/vendor.mjs
	@$(PIP) --no-build-isolation --editable '.[book]'
	@cd book && npm ci --silent --no-audit --no-fund && npm run --silent vendor
	@touch $@

# Executed cells are kept until the package changes: an output must come from the code that it stands beside.
book/_build/.package: $(shell find kfqn_ref -name '*.py')
	@rm -rf book/_build/.jupyter_cache && mkdir -p $(@D) && touch $@

book: $(BOOK_READY) book/_build/.package  ## the book as pages, in book/_build/html; warnings are errors
	$(BIN)/jupyter-book build book $(BOOK_FLAGS)

claims: $(READY)  ## list the sentences of the book that a cell asserts
	@$(BIN)/python -m kfqn_ref.experiments.book.claims book

chapter: $(BOOK_READY)  ## one chapter, quickly: make chapter NAME=damping
	$(BIN)/python book/build_chapter.py $(NAME)

book-test: book  ## read the book in headless Chromium, and follow its links
	cd book/_build/html && ../../../$(BIN)/linkchecker --no-status --no-robots --no-warnings index.html
	cd book && npm test --silent

paper: $(READY)  ## the figure of paper.md, in out/paper
	$(BIN)/kfqn verify --out out/paper

book-times: $(BOOK_READY)  ## time a build of the book with and without its cache, for the status page
	$(BIN)/python book/time_builds.py

pdf: $(BOOK_READY) book/_build/.package  ## the book as PDF, by LuaLaTeX (book/README.md says what to install)
	$(BIN)/python book/build_pdf.py

clean:  ## remove what the targets made, .venv included
	rm -rf $(VENV) out dist book/_build book/_vendor book/node_modules .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
