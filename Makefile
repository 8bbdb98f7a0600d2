PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEBUG := experiment=toonfaces_red_hair dataset.train=4 dataset.validation=2 dataset.test=4 method.epochs=1 method.s_train=2 sampler.s_for=4 sampler.s_gen=2 logger=csv name=debug
export HYDRA_FULL_ERROR ?= 1
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: help install demo demo-debug test test-slow docs dist dist-debug bench check format clean
help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("dclip needs Python 3.11 or newer; run: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

install: $(VENV)/installed ## make .venv and install everything into it

demo: install ## fine-tune "red hair" on the embedded cartoon faces, measure, report (about a minute on 2 CPU cores)
	$(BIN)/python run.py experiment=toonfaces_red_hair preset=quick
	@echo
	@echo "Look at:      outputs/latest/report.html (pictures, curves, numbers)"
	@echo "Then type:    source $(BIN)/activate"
	@echo "Half of it:   python run.py task=edit edit.adapter=red_hair gamma=0.5"
	@echo "In a browser: python run.py task=demo                          (apply edits, learn more; Ctrl-C ends it)"
	@echo "Another one:  python run.py experiment=toonfaces_zombie"
	@echo "Your words:   python run.py experiment=toonfaces recipe=toonfaces_color edit.source=person edit.target='person with blue hair' edit.name=blue_hair"

demo-debug: install ## the demo in seconds, to see that it runs
	$(BIN)/python run.py $(DEBUG)

test: install ## run the tests
	$(BIN)/python -m pytest

test-slow: install ## run what make test leaves out: kills at random moments, a hundred jobs, fine-tunings by launchers and two processes, a search, two browsers, most experiments to their reports
	$(BIN)/python -m pytest -m slow

docs: install ## build the documentation as a site that needs no network: site/VERSION/
	$(BIN)/python -m mkdocs build --strict --quiet -f docs/mkdocs.yml
	@echo "Open site/index.html"

dist: install ## build the wheel and the source archive: dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	@echo "Install it anywhere: pip install dist/*.whl"

dist-debug: dist ## the demo in seconds, from the wheel and an empty folder
	rm -rf build/site build/empty && mkdir -p build/empty
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --target build/site dist/*.whl
	cd build/empty && PYTHONPATH=$(CURDIR)/build/site $(CURDIR)/$(BIN)/python -m dclip.cli $(DEBUG)
	cd build/empty && PYTHONPATH=$(CURDIR)/build/site $(CURDIR)/$(BIN)/python -m dclip.cli info

bench: install ## the benchmarks that need no GPU, at small size, about fifteen minutes; results in benchmarks/*.json
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/finetuning.py
	$(BIN)/python benchmarks/to_success.py --images 8 --lr 3e-5 --faces 16
	$(BIN)/python benchmarks/editing.py
	$(BIN)/python benchmarks/mixing.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/guidance.py --images 2 --steps 6 --repeats 2
	$(BIN)/python benchmarks/gpu.py

check: install ## formatter, linter, type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what can be made again
	rm -rf $(VENV) site dist build .mypy_cache .ruff_cache .pytest_cache
