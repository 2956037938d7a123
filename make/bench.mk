# Speed. Included by the Makefile. Nothing else should run on the machine meanwhile.

.PHONY: bench
bench: $(VENV)/.dev  ## measure speed, memory, cold start and streaming on two cores; rewrite docs/benchmarks.md and the model's card (10 to 15 min)
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench report
	@$(BIN)/python -m pianofarm_training.evaluate --rewrite

.PHONY: bench-short
bench-short: $(VENV)/.dev  ## the same in a minute with short pieces: tables in .state/bench, nothing else changed
	@$(BIN)/python -m bench --short
