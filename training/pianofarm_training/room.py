"""How fast the recordings' room falls silent, from the noises of released keys. Makes no sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Octave bands in which decay is measured: their centres. Higher up the tails are hiss.
CENTRES_HZ = (90.0, 180.0, 350.0, 700.0, 1400.0, 2800.0)

#: What is measured: from this long after a noise's peak, for this long.
AFTER_PEAK_S, DURING_S = 0.05, 0.16

_STEP_S = 0.01


def decay_times_s(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Reverberation times (T60) by band: the median slope of the noises' tails. [len(CENTRES_HZ)]

    Args:
        paths: recordings of key releases, each a short knock in the room.
    """
    import soundfile
    from scipy.signal import butter, sosfiltfilt

    times_s: list[list[float]] = [[] for _ in CENTRES_HZ]
    for path in paths:
        sound, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        step = int(_STEP_S * rate_hz)
        for index, centre_hz in enumerate(CENTRES_HZ):
            band = butter(2, (centre_hz / 1.41, centre_hz * 1.41), "bandpass", fs=rate_hz, output="sos")
            power = (sosfiltfilt(band, sound, axis=0) ** 2).sum(axis=1)
            level_db = 10 * np.log10(power[: len(power) // step * step].reshape(-1, step).mean(axis=1) + 1e-14)
            start = int(level_db.argmax()) + int(AFTER_PEAK_S / _STEP_S)
            part = level_db[start : start + int(DURING_S / _STEP_S)]
            if len(part) == int(DURING_S / _STEP_S):
                slope_db_per_s = float(np.polyfit(np.arange(len(part)) * _STEP_S, part, 1)[0])
                times_s[index].append(60 / max(-slope_db_per_s, 20.0))
    return np.array([np.median(times) for times in times_s], np.float32)
