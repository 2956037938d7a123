"""Frequency bands of the noise: mel-spaced, overlapping triangles that sum to one in every bin."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def band_centres_hz(n_bands: int, sample_rate_hz: int) -> NDArray[np.float64]:
    """Centres of the bands, the first at 0, the last at half the rate. [n_bands]"""
    highest_mel = 2595 * np.log10(1 + sample_rate_hz / 2 / 700)
    return np.asarray(700 * (10 ** (np.linspace(0, highest_mel, n_bands) / 2595) - 1))


@lru_cache(maxsize=8)
def band_weights(n_bands: int, n_bins: int, sample_rate_hz: int) -> NDArray[np.float32]:
    """Share of each band in each bin of a spectrum. [n_bands, n_bins] float32, columns sum to 1."""
    centres_hz = band_centres_hz(n_bands, sample_rate_hz)
    bin_hz = np.linspace(0, sample_rate_hz / 2, n_bins)
    eye = np.eye(n_bands)
    return np.stack([np.interp(bin_hz, centres_hz, row) for row in eye]).astype(np.float32)
