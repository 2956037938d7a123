# Hostile MIDI. Included by the Makefile. One process, at the lowest priority.
FUZZ_S ?= 1800
FUZZ := .venv-fuzz
FUZZ_STATE := $(STATE)/fuzz-midi

# An environment of its own: atheris is no part of the locked requirements, because it has no wheels for some versions of Python.
$(FUZZ)/.ready: tests/fuzz/tools.txt | $(BIN)/uv
	@echo "setting up $(FUZZ) ..."
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(FUZZ)
	@VIRTUAL_ENV=$(FUZZ) $(BIN)/uv pip install --quiet --only-binary :all: --requirement tests/fuzz/tools.txt
	@touch $@

.PHONY: fuzz-midi
fuzz-midi: $(FUZZ)/.ready  ## fuzz the reader of MIDI bytes with atheris for half an hour (FUZZ_S=1800); findings in .state/fuzz-midi
	@[ -d $(FUZZ_STATE)/corpus ] || $(FUZZ)/bin/python tests/fuzz/midi_bytes.py seed $(FUZZ_STATE)/corpus
	@nice -n 19 $(FUZZ)/bin/python tests/fuzz/midi_bytes.py fuzz $(FUZZ_STATE)/corpus $(FUZZ_S)
	@$(FUZZ)/bin/coverage run --branch --data-file=$(FUZZ_STATE)/coverage --include='common/pianofarm_common/*' \
	  tests/fuzz/midi_bytes.py replay $(FUZZ_STATE)/corpus
	@$(FUZZ)/bin/coverage report --data-file=$(FUZZ_STATE)/coverage --include='*/smf.py,*/parts.py,*/midi.py,*/clock.py'
