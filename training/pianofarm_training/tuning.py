"""Where the partials of a recorded key are: its fundamental and its inharmonicity. No amplitudes.

A stiff string's partials are at f_k = k f0 sqrt(1 + B k^2) (Fletcher, JASA 36, 1964).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Frequencies above this are left to the noise bands: too near the edge of a rate of 32 kHz.
HIGHEST_PARTIAL_HZ = 15_000.0


@dataclass(frozen=True)
class Tuning:
    """The two numbers that place all partials of a key."""

    f0_hz: float
    inharmonicity: float

    def partials_hz(self, n_partials: int) -> FloatArray:
        """Frequencies of the first partials. [n_partials]"""
        k = np.arange(1, n_partials + 1)
        return np.asarray(k * self.f0_hz * np.sqrt(1 + self.inharmonicity * k**2))


def equal_tempered_hz(pitch: float) -> float:
    """Frequency of a MIDI pitch at A4 = 440 Hz."""
    return float(440.0 * 2 ** ((pitch - 69) / 12))


def typical_inharmonicity(pitch: float) -> float:
    """B of a grand piano's key, within 6 % rms for the Salamander's Yamaha C5 (measured on its recordings)."""
    return float(np.exp(-0.1239 * pitch - 5.562) + np.exp(0.0888 * pitch - 13.50))


def count_partials(pitch: int, tuning: Tuning) -> int:
    """How many partials a key gets: 64 in the bass, 32 from the middle on, none above `HIGHEST_PARTIAL_HZ`."""
    wanted = int(np.clip(round(64 - 1.6 * (pitch - 40)), 32, 64))
    return max(1, int((tuning.partials_hz(wanted) < HIGHEST_PARTIAL_HZ).sum()))


def measure(notes: list[NDArray[np.float32]], pitch: int, sample_rate_hz: int) -> Tuning:
    """Find the partials of a key.

    Args:
        notes: [n_samples, n_channels] each, a few loud notes of the key, from their onsets.
        pitch: the key, which bounds the search to 120 cents around equal temperament.
        sample_rate_hz: of the notes.
    """
    level_db, bin_hz = spectrum(notes, pitch, sample_rate_hz)
    coarse = _search(level_db, bin_hz, pitch)
    return _refine(level_db, bin_hz, coarse, count_partials(pitch, coarse))


def spectrum(notes: list[NDArray[np.float32]], pitch: int, sample_rate_hz: int) -> tuple[FloatArray, float]:
    """Mean power spectrum in dB above its own floor, and the width of a bin; as for `measure`."""
    length_s = float(np.interp(pitch, [21, 108], [3.0, 0.4]))
    start = int(float(np.interp(pitch, [21, 108], [0.2, 0.03])) * sample_rate_hz)
    n = min(int(length_s * sample_rate_hz), min(len(note) for note in notes) - start)
    n_fft = 1 << (int(4 * n) - 1).bit_length()
    window = np.hanning(n)[:, None]
    power = np.zeros(n_fft // 2 + 1)
    for note in notes:
        part = note[start : start + n]
        power += (np.abs(np.fft.rfft(part * window, n_fft, axis=0)) ** 2).sum(axis=1) / (float((part**2).sum()) + 1e-12)
    level_db = 10 * np.log10(power + 1e-14)
    # The floor: a low quantile over stretches of one and a half partials.
    width = max(8, int(1.5 * equal_tempered_hz(pitch) * n_fft / sample_rate_hz))
    n_stretches = len(level_db) // width
    floor = np.quantile(level_db[: n_stretches * width].reshape(n_stretches, width), 0.3, axis=1)
    positions = np.arange(len(level_db)) / width - 0.5
    return level_db - np.interp(positions, np.arange(n_stretches), floor), sample_rate_hz / n_fft


def _search(level_db: FloatArray, bin_hz: float, pitch: int) -> Tuning:
    """Best pair on a grid, by the mean level at the first partials."""
    best, best_score = Tuning(equal_tempered_hz(pitch), typical_inharmonicity(pitch)), -np.inf
    for factor in np.geomspace(0.4, 2.5, 31):
        b = typical_inharmonicity(pitch) * factor
        for cents in np.arange(-60.0, 121.0, 2.0):
            tuning = Tuning(equal_tempered_hz(pitch) * 2 ** (cents / 1200), b)
            partials_hz = tuning.partials_hz(12)
            partials_hz = partials_hz[partials_hz < HIGHEST_PARTIAL_HZ]
            levels = np.clip(level_db[np.round(partials_hz / bin_hz).astype(int)], 0, 45)
            # A weak pull towards what is usual decides where few partials cannot.
            score = levels.mean() - 0.02 * abs(cents) - 0.5 * abs(np.log(factor))
            if score > best_score:
                best, best_score = tuning, score
    return best


def _refine(level_db: FloatArray, bin_hz: float, tuning: Tuning, n_partials: int) -> Tuning:
    """Walk upward, pick each peak near its prediction, and refit with outliers weighted down."""
    k_found: list[int] = []
    f_found: list[float] = []
    for k in range(1, n_partials + 1):
        found_hz = _peak_hz(level_db, bin_hz, float(tuning.partials_hz(k)[-1]), tuning.f0_hz)
        if found_hz is None:
            continue
        k_found.append(k)
        f_found.append(found_hz)
        if k >= 4:
            tuning = _fit_law(np.array(k_found), np.array(f_found), tuning)
    if len(k_found) in (1, 2, 3):
        ratio = np.median(np.array(f_found) / tuning.partials_hz(n_partials)[np.array(k_found) - 1])
        tuning = Tuning(tuning.f0_hz * float(ratio), tuning.inharmonicity)
    return tuning


def peaks(
    level_db: FloatArray, bin_hz: float, tuning: Tuning, n_partials: int
) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Numbers and frequencies of the partials that stand out of a spectrum near their predictions.

    Args:
        level_db: from `spectrum`.
        bin_hz: from `spectrum`.
        tuning: the law.
        n_partials: looked for.
    """
    found = [_peak_hz(level_db, bin_hz, float(hz), tuning.f0_hz) for hz in tuning.partials_hz(n_partials)]
    k = np.array([index for index, hz in enumerate(found, 1) if hz is not None], int)
    return k, np.array([hz for hz in found if hz is not None], float)


def _peak_hz(level_db: FloatArray, bin_hz: float, predicted_hz: float, f0_hz: float) -> float | None:
    """The highest peak near a prediction, by a parabola through three bins; None where it is less than 15 dB above the floor."""
    reach = max(3, int(max(0.004 * predicted_hz, 0.03 * f0_hz) / bin_hz))
    low = int(predicted_hz / bin_hz) - reach
    if low < 2 or predicted_hz / bin_hz + reach + 2 >= len(level_db):
        return None
    at = low + int(np.argmax(level_db[low : low + 2 * reach + 1]))
    if level_db[at] < 15:
        return None
    before, here, after = level_db[at - 1], level_db[at], level_db[at + 1]
    offset = 0.5 * (before - after) / (before - 2 * here + after) if before + after < 2 * here else 0.0
    return (at + float(np.clip(offset, -0.5, 0.5))) * bin_hz


def _fit_law(k: NDArray[np.int_], frequency_hz: FloatArray, tuning: Tuning) -> Tuning:
    """(f_k / k)^2 = f0^2 (1 + B k^2), linear in f0^2 and f0^2 B; weights 1 / (1 + (error / 4 cents)^2)."""
    target = (frequency_hz / k) ** 2
    for _ in range(3):
        law_hz = k * tuning.f0_hz * np.sqrt(1 + tuning.inharmonicity * k**2)
        cents = 1200 * np.log2(frequency_hz / law_hz)
        weight = np.sqrt(1 / (1 + (cents / 4) ** 2)) / target
        matrix = np.stack([np.ones(len(k)), k.astype(float) ** 2], axis=1)
        (square, product), *_ = np.linalg.lstsq(matrix * weight[:, None], target * weight, rcond=None)
        if square <= 0 or not 0.2 < product / square / tuning.inharmonicity < 5:
            return tuning
        tuning = Tuning(float(np.sqrt(square)), float(product / square))
    return tuning
