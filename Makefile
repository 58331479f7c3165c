# Each command is enough alone on a fresh clone: it makes .venv with the pinned versions first. No logic lives here.
.PHONY: book pdf test test-slow check lab results clean
PY := .venv/bin/python
TEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
DEVICE := cpu
PAGE := rate_generalisation
# The first that really runs (a pyenv shim may exist and not run), is 3.11 or 3.12, and can make an environment.
PYTHON = $(shell for p in python3.11 python3.12 python3 python; do $$p -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null && echo $$p && break; done)

book: .venv/stamp  ## Run the notebooks over results/ and build the book
	$(PY) book/build.py

pdf: .venv/stamp  ## A page of the built book as PDF: make pdf PAGE=pruning
	$(PY) book/pdf.py $(PAGE)

test: .venv/stamp  ## The tests, warnings as errors, two files at a time
	$(TEST) -m "not slow"

test-slow: .venv/stamp  ## The tests that take longest: notebooks run by papermill, faults at hundreds of places
	$(TEST) -m slow

check: .venv/stamp  ## Lint, format, types, import layers, notebooks in step with their sources
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pyright
	.venv/bin/lint-imports --no-logo
	$(PY) book/pairs.py

lab: .venv/stamp  ## JupyterLab on copies of the notebooks, with the widgets
	$(PY) book/lab.py
	$(PY) -m jupyter lab --notebook-dir=. lab/index.ipynb

results: .venv/stamp  ## Every study at the paper's scale, into results/: make results DEVICE=cuda
	for study in $$($(PY) -c 'from vaekit.studies import NAMES; print(*NAMES)'); do $(MAKE) results-$$study || exit 1; done

results-%: .venv/stamp
	$(PY) -m vaekit train $* --scale paper -p device $(DEVICE) && $(PY) -m vaekit export $* --scale paper

clean:  ## What a build leaves behind, the environment aside
	rm -rf _build book/studies .cache/book

.venv/stamp: requirements.lock pyproject.toml
	$(or $(PYTHON),$(error vaekit needs Python 3.11 or 3.12 with its venv module: none of python3.11, python3.12, python3 is one; install it (Debian: python3-venv), or say which with make PYTHON=/path/to/python3.12)) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
