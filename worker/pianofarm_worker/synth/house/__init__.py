"""The house piano: our own model, tables per key and notes with their own clocks. Numpy only."""
