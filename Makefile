# make demo: from nothing to a trained, scored network.  make test: the tests.  Both install first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

DEMO_DATA := datasets/demo/SYSU-MM01
DEMO_LOG := logs/demo
DEMO_MODEL := projects/CMEMD/cmemd/inference/demo
NEIGHBOURS ?= /tmp/cmemd-neighbours
TRAIN := FASTREID_DATASETS=datasets/demo $(BIN)/python tools/train_net.py \
	--config-file projects/CMEMD/configs/demo.yml

# PyTorch's threads spin at barriers otherwise, which one other busy process makes very slow.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo demo-model test test-slow test-browser test-ray test-multihost test-wheel test-neighbours \
	bench lint types coverage package docs

setup: $(INSTALLED)

# fast-reid goes in last and without its pins; a checkout on PYTHONPATH is used as it is.
$(INSTALLED): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,train,export,serve,server,headless,report,browser,docs]'
	$(BIN)/python -c "import fastreid" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --no-deps fastreid==1.4.0
	touch $@

demo: $(DEMO_LOG)/model_final.pth $(DEMO_LOG)/untrained/results.json
	@$(BIN)/cmemd compare $(DEMO_LOG)/untrained/results.json $(DEMO_LOG)/results.json \
		--names untrained trained
	@echo "results:         $(DEMO_LOG)/results.json"
	@echo "log:             $(DEMO_LOG)/log.txt"
	@echo "ranked gallery:  $(DEMO_LOG)/ranked_gallery.png"
	@$(BIN)/cmemd report --run $(DEMO_LOG) --compare $(DEMO_LOG)/untrained --output $(DEMO_LOG)/report

$(DEMO_DATA)/meta.jsonl: | $(INSTALLED)
	$(BIN)/cmemd synth --layout sysu --root $(DEMO_DATA) --ids 200 --per-camera 8 \
		--size 128x64 --seed 0

$(DEMO_LOG)/untrained/results.json: | $(DEMO_DATA)/meta.jsonl
	$(TRAIN) --eval-only OUTPUT_DIR $(DEMO_LOG)/untrained

# The last file of a training; an interrupted one goes on from its last checkpoint.
$(DEMO_LOG)/model_final.pth: | $(DEMO_DATA)/meta.jsonl
	$(TRAIN) --resume OUTPUT_DIR $(DEMO_LOG)

# The model of `make demo` that the package carries: refresh it after a change of the demo's numbers.
demo-model: $(DEMO_LOG)/model_final.pth
	rm -rf $(DEMO_LOG)/shipped
	FASTREID_DATASETS=datasets/demo $(BIN)/cmemd export --config demo \
		--weights $(DEMO_LOG)/model_final.pth --output $(DEMO_LOG)/shipped --formats onnx --half --slim
	rm -rf $(DEMO_MODEL)
	cp -r $(DEMO_LOG)/shipped $(DEMO_MODEL)

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# Skips with the reason where Chromium is absent; pictures of each page go to logs/screenshots.
test-browser: $(INSTALLED)
	$(BIN)/python -m pytest -m browser -rs tests/browser

# A cluster of two nodes on this machine; Ray and pandas come with the extra.
test-ray: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -m "slow or not slow" tests/gallery/test_ray.py

# Two machines, as two network namespaces of this one; needs root and the command `ip`.
test-multihost: $(INSTALLED)
	$(BIN)/python -m tests.multihost

# The wheel in a fresh environment: five lines embed the images that come with it.
test-wheel: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or not slow" tests/test_wheel.py

# Other tools against Predictor, in environments outside the repository. Those under the AGPL have
# one of their own, and only the script that runs there imports them. What cannot be installed is
# skipped with a message.
test-neighbours: $(DEMO_LOG)/model_final.pth
	$(BIN)/python tests/neighbours/run.py --environments $(NEIGHBOURS) \
		--weights $(DEMO_LOG)/model_final.pth

# The documentation site, in build/site: opens from disk. A warning, as of a dead link, is an error.
# The variable silences Material's notice of MkDocs 2, which pyproject.toml excludes.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site:  build/site/index.html"

bench: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bm_scoring.py
	$(BIN)/python tests/benchmarks/bm_doctor.py
	$(BIN)/python tests/benchmarks/bm_transport.py
	$(BIN)/python tests/benchmarks/bm_step.py
	$(BIN)/python tests/benchmarks/bm_processes.py
	$(BIN)/python tests/benchmarks/bm_memory.py
	$(BIN)/python tests/benchmarks/bm_export.py
	$(BIN)/python tests/benchmarks/bm_search.py
	$(BIN)/python tests/benchmarks/bm_serving.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The tests that `make test` runs, and those of the processes that they start.
coverage: $(INSTALLED)
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

# The wheel is built from the unpacked sdist, so an sdist that lacks a file fails here.
package: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

types: $(INSTALLED)
	$(BIN)/mypy
