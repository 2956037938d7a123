"""Dry and wet: how much of the room is heard. For whole renders and for blocks of streams alike; no room is made here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mixed(wet: NDArray[np.float32], dry: NDArray[np.float32], room: float) -> NDArray[np.float32]:
    """The dry sound, and of what the room makes of it this much: `dry + room * (wet - dry)`.

    Args:
        wet: [n_samples, n_channels] float32, as the model has it.
        dry: [n_samples, n_channels] float32, before the room.
        room: 0 .. 2. At 1 the wet sound itself is given back and at 0 the dry one: the very same samples, no copy.
    """
    if room == 1:
        return wet
    if room == 0:
        return dry
    result = wet - dry
    result *= np.float32(room)
    result += dry
    return result
