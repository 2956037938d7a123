"""How far one sound is from another: numbers on arrays, no models, no files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Log spectra are floored this far below the peak.
FLOOR_DB = 80.0

#: Frames of the reference this far below its loudest one are silence.
SILENT_DB = 60.0


def spectrogram_db(sound: NDArray[np.float32], window: int, hop: int, peak: float | None = None) -> NDArray[np.float32]:
    """Hann magnitudes in dB, floored `FLOOR_DB` below a peak. [n_frames, window / 2 + 1]

    Args:
        sound: [n_samples].
        window: samples.
        hop: samples.
        peak: linear magnitude of the peak; None: the sound's own.
    """
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop] * np.hanning(window).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames, axis=1))
    top = float(magnitude.max()) if peak is None else peak
    return np.asarray(20 * np.log10(np.maximum(magnitude, top * 10 ** (-FLOOR_DB / 20) + 1e-12)), np.float32)


def log_spectral_distance_db(ours: NDArray[np.float32], theirs: NDArray[np.float32], window: int = 2048) -> float:
    """Root mean square over frequency of the difference of log spectra, mean over time.

    Both are floored `FLOOR_DB` below the peak of the reference's frame, so that the end of a note counts as its beginning does;
    frames more than `SILENT_DB` below the reference's loudest are left out: there a recording holds its hiss.

    Args:
        ours: [n_samples].
        theirs: [n_samples], the reference; the longer sound is cut.
        window: samples of the Hann window; the hop is a quarter.
    """
    n = min(len(ours), len(theirs))
    hann = np.hanning(window).astype(np.float32)
    power = [
        np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(sound[:n], window)[:: window // 4] * hann, axis=1))
        ** 2
        for sound in (ours, theirs)
    ]
    peak = power[1].max(axis=1, keepdims=True)
    heard = peak[:, 0] > 10 ** (-SILENT_DB / 10) * peak.max()
    levels_db = [10 * np.log10(np.maximum(p[heard], 10 ** (-FLOOR_DB / 10) * peak[heard])) for p in power]
    return float(np.sqrt(((levels_db[0] - levels_db[1]) ** 2).mean(axis=1)).mean())


def multi_resolution_distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Mean absolute difference of log magnitudes over six resolutions, in nepers, floored as the log-spectral distance is."""
    n = min(len(ours), len(theirs))
    each = []
    for window in (4096, 2048, 1024, 512, 256, 128):
        a, b = (spectrogram_db(sound[:n], window, window // 4) for sound in (ours, theirs))
        each.append(float(np.abs(a - b).mean()) / 8.685889638)
    return float(np.mean(each))


def decay_time_s(power: NDArray[np.float64], time_s: NDArray[np.float64]) -> float:
    """T20: from the backward integral of the power, the time from -5 to -25 dB; nan where it does not fall so far."""
    slices = np.diff(time_s) * 0.5 * (power[1:] + power[:-1])
    left = np.concatenate([np.cumsum(slices[::-1])[::-1], [0.0]])
    left_db = 10 * np.log10(left / left[0] + 1e-30)
    if left_db[-2] > -25:
        return float("nan")
    at_5, at_25 = (float(np.interp(level, -left_db, time_s)) for level in (5.0, 25.0))
    return at_25 - at_5
