"""What producers and workers agree on: errors, settings, renders, MIDI, queue, ledger, storage. Imports nothing of ours."""
