"""Levels of all keys at all layers: against a reference, and by themselves. Numbers on arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A louder layer counts as softer where it is so by more than this.
FALLS_DB = 0.1


@dataclass(frozen=True)
class Evenness:
    """What a player notices of an instrument's levels, whichever piano it is."""

    falling_part: float  #: part of the steps between neighbouring layers at which the level falls
    unevenness_db: float  #: rms of a key's level less the mean of its two neighbours'
    range_db: float  #: median over keys of loudest less softest layer


def level_errors_db(ours_db: NDArray[np.float64], theirs_db: NDArray[np.float64]) -> tuple[float, float]:
    """Root mean square and 95th percentile of the difference, its mean taken off.

    Args:
        ours_db: [n_keys, n_layers].
        theirs_db: the same.
    """
    error = ours_db - theirs_db
    error = error - error.mean()
    return float(np.sqrt((error**2).mean())), float(np.quantile(np.abs(error), 0.95))


def evenness(levels_db: NDArray[np.float64]) -> Evenness:
    """How levels follow velocity and keys.

    Args:
        levels_db: [n_keys, n_layers], softest layer first.
    """
    between = levels_db[1:-1] - 0.5 * (levels_db[:-2] + levels_db[2:])
    return Evenness(
        falling_part=float((np.diff(levels_db, axis=1) < -FALLS_DB).mean()),
        unevenness_db=float(np.sqrt((between**2).mean())),
        range_db=float(np.median(levels_db[:, -1] - levels_db[:, 0])),
    )
