"""What repeated measurements say: median, least and most, percentiles. Plain values that go into JSON; no clocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least, most and number of at least one measurement."""
    ordered = sorted(values)
    return {"median": percentile(ordered, 50.0), "low": ordered[0], "high": ordered[-1], "n": len(ordered)}


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the two nearest of at least one measurement, as NumPy does by default."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100.0
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
