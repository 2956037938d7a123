"""Instruments measured against the recordings: what they play, how far off it is, and the page that says so. Trains nothing."""
