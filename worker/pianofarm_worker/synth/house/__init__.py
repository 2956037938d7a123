"""The house piano: our own model, tables per key and notes with their own clocks. NumPy, and loops compiled by Numba."""
