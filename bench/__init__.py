"""Speed is measured here, never asserted in a test. `python -m bench` runs, `python -m bench report` writes docs/benchmarks.md."""
