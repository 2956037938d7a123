# The house piano: recordings -> analysis -> fit -> model folder -> card. Hours are in the model card.
.PHONY: data
data: $(VENV)/.dev  ## fetch the recordings the house piano is learned from (80 MB, needs npm) into data/
	@$(BIN)/python -m pianofarm_training.data

.PHONY: train
train: data  ## learn the house piano; goes on where it was killed
	@$(BIN)/python -m pianofarm_training.train

.PHONY: evaluate
evaluate: data  ## measure the house piano against the recordings; rewrites the table of its card
	@$(BIN)/python -m pianofarm_training.evaluate
