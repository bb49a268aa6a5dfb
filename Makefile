# make demo      fill a hole in a 4K photograph; needs nothing but Python >= 3.11
# make test      every test, by as many processes as there are cores, at most 4 (ARGS="-k engine": some)
# make check     format, lint, types, import directions
# make bench     the paper's tables and figures on this machine, and a page with all of it, into build/bench: half an
#                hour (PHOTOS=folder to measure on, TRAIN=others for tables 4 and 5 and the frontier, OUT=folder of results)
# make bench-quick  the same in minutes, and rougher
# make tables    the documents' tables and plots from results/*.json
# make pictures  the documents' pictures from examples/
# make clean     remove what these made
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PHOTOS ?= examples/photos
TRAIN ?=
OUT ?= build/bench

BIN = $(VENV)/bin
PLAIN = $(VENV)/.plain
DEV = $(VENV)/.dev
# A development environment does for the demo too, and must not be overwritten by a plain one.
ANY = $(if $(wildcard $(DEV)),$(DEV),$(PLAIN))
SOURCES = $(shell find src/rethined -type f -not -name '*.py[co]' -not -name '*.nb[ci]')

.DEFAULT_GOAL = help
.PHONY: help demo test check bench bench-quick tables pictures clean

help:
	@sed -n '1,10s/^# //p' Makefile

demo: $(ANY)
	@mkdir -p demo
	@echo; echo "First run, which compiles its loops once:"
	@$(BIN)/rethined inpaint examples/photos/city.jpg examples/masks/city.png -o demo/city.jpg --side-by-side --overwrite
	@echo "Second run, from file to file:"
	@$(BIN)/rethined inpaint examples/photos/city.jpg examples/masks/city.png -o demo/city.jpg --overwrite
	@echo; echo "Look at demo/city.jpg and, beside the original, at demo/city.jpg.side-by-side.jpg"

test: $(DEV)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(ARGS)

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_package.py -k import

# Pictures of the figures go into documents, so they are of the examples.
bench: $(DEV)
	$(BIN)/rethined bench paper table1 table3 $(if $(TRAIN),table4 table5 frontier --train "$(TRAIN)") --photos "$(PHOTOS)" --out "$(OUT)" $(ARGS)
	$(BIN)/rethined bench paper figure3 figure5 --photos examples/photos --out "$(OUT)" $(ARGS)
	$(BIN)/rethined bench stream --out "$(OUT)"
	$(BIN)/rethined bench device "$(PHOTOS)" $(if $(findstring --quick,$(ARGS)),--runs 5 --limit 2) --out "$(OUT)"
	$(BIN)/rethined bench report --results "$(OUT)" --html "$(OUT)/report.html"

bench-quick: ARGS += --quick
bench-quick: bench

tables: $(DEV)
	$(BIN)/rethined bench report

pictures: $(ANY)
	$(BIN)/python examples/pictures.py docs/images

clean:
	rm -rf $(VENV) demo build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("rethined needs Python 3.11 or newer; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(PLAIN): pyproject.toml $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
