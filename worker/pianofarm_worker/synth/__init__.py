"""Synthesis: from a performance to audio. The only place that imports tensorflow, keras, jax or ddsp; knows nothing of the farm."""
