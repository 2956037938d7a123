"""Makes models from recordings: fetches, analyses, fits, exports and measures. Nothing that renders imports it."""
