"""Passages against the sampler's, of one loudness: spectral distances, levels after onsets. Renders nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import QualityGateFailed
from pianofarm_training.distances import log_spectral_distance_db, multi_resolution_distance
from pianofarm_worker.loudness import loudness_lufs

Sound = NDArray[np.float32]

#: How much after an onset its level is taken from.
ONSET_S = 0.05


@dataclass(frozen=True)
class PassageErrors:
    """A passage against the reference."""

    lsd_db: float  #: mean of both channels
    multi_resolution: float  #: nepers, likewise
    onset_db: float  #: mean absolute error of the level after an onset
    onset_95_db: float  #: its 95th percentile


def matched(sound: Sound, reference: Sound, rate_hz: int) -> Sound:
    """A sound at the loudness of another (ITU-R BS.1770-4), and no longer.

    Raises:
        QualityGateFailed: one of them has no loudness.
    """
    ours, theirs = (loudness_lufs(one, rate_hz) for one in (sound, reference))
    if ours is None or theirs is None:
        raise QualityGateFailed(f"loudness {ours} against {theirs} LUFS: nothing to hear, so nothing to compare")
    return np.asarray(sound[: len(reference)] * np.float32(10 ** ((theirs - ours) / 20)), np.float32)


def compare(ours: Sound, theirs: Sound, onsets_s: NDArray[np.float64], rate_hz: int) -> PassageErrors:
    """A passage against the reference, of the same loudness.

    Args:
        ours: [n_samples, n_channels].
        theirs: the same, the reference.
        onsets_s: when notes begin.
        rate_hz: of both.
    """
    n = min(len(ours), len(theirs))
    ours, theirs = ours[:n], theirs[:n]
    channels = [(ours[:, channel], theirs[:, channel]) for channel in range(ours.shape[1])]
    errors = onset_errors_db(ours, theirs, onsets_s, rate_hz)
    return PassageErrors(
        lsd_db=float(np.mean([log_spectral_distance_db(a, b) for a, b in channels])),
        multi_resolution=float(np.mean([multi_resolution_distance(a, b) for a, b in channels])),
        onset_db=float(np.abs(errors).mean()),
        onset_95_db=float(np.quantile(np.abs(errors), 0.95)),
    )


def onset_errors_db(ours: Sound, theirs: Sound, onsets_s: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    """Difference of the levels of the `ONSET_S` after each time at which notes begin. [n_times]"""
    length = round(ONSET_S * rate_hz)
    starts = [round(onset_s * rate_hz) for onset_s in np.unique(onsets_s)]
    parts = [slice(at, at + length) for at in starts if at + length <= len(theirs)]
    powers = [np.array([(sound[part].astype(np.float64) ** 2).mean() for part in parts]) for sound in (ours, theirs)]
    return np.asarray(10 * np.log10((powers[0] + 1e-12) / (powers[1] + 1e-12)))
