# The proof of reliability. Included by the Makefile.
SEED ?= 1
RENDERS ?= 20000

.PHONY: faults
faults: $(VENV)/.dev  ## every fault at every point of a render's life, with real servers (about half an hour; SEED=1)
	@PIANOFARM_FAULTS=long PIANOFARM_FAULTS_SEED=$(SEED) $(BIN)/python -m pytest -q tests/faults $(PYTEST_ARGS)

.PHONY: soak
soak: $(VENV)/.dev  ## 20,000 tiny renders with a kill every few seconds, and the counts (SEED=1, RENDERS=20000)
	@$(BIN)/python tests/faults/soak.py --seed $(SEED) --renders $(RENDERS) --folder $(STATE)/soak --publish

.PHONY: load
load: $(VENV)/.dev  ## the farm's own cost: pace, latency, recovery under load, with and without AOF and TLS (8 min)
	@$(BIN)/python -m bench.load --publish

.PHONY: load-short
load-short: $(VENV)/.dev  ## the same with a few hundred renders: does it work at all
	@$(BIN)/python -m bench.load --short
