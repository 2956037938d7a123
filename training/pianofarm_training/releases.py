"""The noises of keys let go -> levels in bands over time. Nothing is fitted here.

In the Salamander set they are normalised to their peaks; its author's mapping plays them at -37 dB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.residual import band_densities
from pianofarm_worker.synth.house.layout import Layout

#: Level at which the peak-normalised noises are played.
PLAYED_AT_DB = -37.0

#: Longest part of a noise that is learned.
LONGEST_S = 0.44

#: Noise frames averaged into one.
_GROUP = 2


def release_levels(paths: Sequence[Path], layout: Layout) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Band levels of each noise, as played.

    Args:
        paths: one recording a key, lowest first.
        layout: of the model.

    Returns:
        [2, n_bands, n_frames] each, dB full scale^2 per Hz; and the frames' times in seconds, [n_frames].
    """
    import soundfile
    import soxr

    bands, rate_hz = layout.bands, layout.sample_rate_hz
    n_frames = int(LONGEST_S * rate_hz / bands.hop / _GROUP)
    levels = []
    for path in paths:
        sound, file_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        sound = soxr.resample(np.repeat(sound, 3 - sound.shape[1], axis=1)[:, :2], file_rate_hz, rate_hz, quality="HQ")
        both = []
        for channel in range(2):
            padded = np.zeros(n_frames * _GROUP * bands.hop + bands.window, np.float32)
            part = sound[: len(padded), channel]
            padded[: len(part)] = part
            density = band_densities(padded, rate_hz, bands.n_bands, bands.window, bands.hop)[: n_frames * _GROUP]
            both.append(density.reshape(n_frames, _GROUP, -1).mean(axis=1).T)
        levels.append((10 * np.log10(np.stack(both) + 1e-16) + PLAYED_AT_DB).astype(np.float32))
    time_s = (np.arange(n_frames) * _GROUP + (_GROUP - 1) / 2) * bands.hop / rate_hz
    return levels, time_s.astype(np.float32)
