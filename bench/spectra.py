"""How far two sounds are from each other: log-spectral distance and levels. Renders nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Levels = NDArray[np.float64]


def log_spectral_distance_db(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Root mean square over the bins of a spectrum, mean over the spectra; below 1e-5 a bin counts as 1e-5."""
    return float(np.sqrt(((_spectra_db(a) - _spectra_db(b)) ** 2).mean(axis=1)).mean())


def levels_db(audio: NDArray[Any], n_samples: int) -> _Levels:
    """Levels of windows of n samples that follow each other, root mean square in dB of full scale; [n_windows]."""
    windows = audio[: len(audio) // n_samples * n_samples].astype(np.float64).reshape(-1, n_samples)
    levels: _Levels = 10 * np.log10(np.maximum((windows**2).mean(axis=1), 1e-14))
    return levels


def _spectra_db(audio: NDArray[Any], size: int = 1024, hop: int = 256) -> _Levels:
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), size)[::hop] * np.hanning(size)
    decibels: _Levels = 20 * np.log10(np.maximum(np.abs(np.fft.rfft(frames)), 1e-5))
    return decibels
