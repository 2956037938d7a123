"""Single notes against recorded ones: when they begin, how loud, how they decay, where they lie. Renders nothing, reads no files.

A note is [n_samples, 2] float32 from its onset on; lists of notes go by the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_training import tuning
from pianofarm_training.distances import decay_time_s, log_spectral_distance_db
from pianofarm_training.samples import find_onset

Sound = NDArray[np.float32]

#: Ranges of time in which envelope errors are told apart, in seconds.
RANGES_S = ((0.0, 0.05), (0.05, 0.5), (0.5, 4.0))

#: Edges of the bands whose envelopes are compared: half octaves.
BAND_EDGES_HZ = 62.5 * 2.0 ** np.arange(0, 8.1, 0.5)

#: Cells of the reference this far below the note's loudest band count; both are floored 20 dB further down.
HEARD_DB = 60.0

#: How much of a note its level is taken from.
LEVEL_S = 0.5

_WINDOW, _HOP = 1024, 128
_TINY = 1e-20


@dataclass(frozen=True)
class NoteErrors:
    """Notes against their references, after one gain for all of them."""

    gain_db: float  #: what was added to all notes, so that the mean level error is zero
    level_db: float  #: rms of the levels of the first half second
    envelope_db: tuple[float, ...]  #: rms of band levels, by `RANGES_S`
    decay_part: float  #: median of |T20 / T20 of the reference - 1|
    lsd_db: float  #: mean log-spectral distance, both channels


def onset_delay_s(sound: Sound, nominal_s: float, rate_hz: int) -> float:
    """How long after its time a note begins: where its energy first comes within 20 dB of its early peak.

    The recordings were cut by the same rule, so that for them it is zero.

    Args:
        sound: [n_samples, 2], of which `nominal_s` is at least 50 ms after the beginning; silent before.
        nominal_s: when the note was to begin.
        rate_hz: of the sound.
    """
    first = round((nominal_s - 0.05) * rate_hz)
    return (first + find_onset(sound[first:], rate_hz)) / rate_hz - nominal_s


def level_db(note: Sound, rate_hz: int, length_s: float = LEVEL_S) -> float:
    """Mean power of a note's beginning over both channels, dB full scale."""
    return float(10 * np.log10((note[: round(length_s * rate_hz)].astype(np.float64) ** 2).mean() + _TINY))


def band_levels_db(note: Sound, rate_hz: int) -> NDArray[np.float64]:
    """Levels in half-octave bands every 4 ms at 32 kHz, frames centred on their times, silence before the note. [frames, bands]"""
    padded = np.concatenate([np.zeros((_WINDOW // 2, note.shape[1]), np.float32), note])
    power = np.zeros(0)
    for channel in range(note.shape[1]):
        frames = np.lib.stride_tricks.sliding_window_view(padded[:, channel], _WINDOW)[::_HOP]
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), axis=1)) ** 2
        power = spectrum if channel == 0 else power + spectrum
    edges = np.round(BAND_EDGES_HZ * _WINDOW / rate_hz).astype(int)
    return np.asarray(10 * np.log10(np.add.reduceat(power, edges, axis=1)[:, :-1] + _TINY))


def envelope_squares(ours_db: NDArray[np.float64], theirs_db: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    """Sums of squared differences, and how many cells they were, by `RANGES_S`. [2, ranges]

    Only cells count in which the reference is within `HEARD_DB` of its loudest.
    """
    n = min(len(ours_db), len(theirs_db))
    ours_db, theirs_db = ours_db[:n], theirs_db[:n]
    peak = theirs_db.max()
    heard = theirs_db > peak - HEARD_DB
    error = np.maximum(ours_db, peak - HEARD_DB - 20) - theirs_db
    time_s = np.arange(n) * _HOP / rate_hz
    sums = np.zeros((2, len(RANGES_S)))
    for index, (low, high) in enumerate(RANGES_S):
        counted = heard & ((time_s >= low) & (time_s < high))[:, None]
        sums[:, index] = (error[counted] ** 2).sum(), counted.sum()
    return sums


def decay_s(note: Sound, rate_hz: int) -> float:
    """T20 of the whole note: from the backward integral of its power in steps of 10 ms; nan where it does not fall so far."""
    step = rate_hz // 100
    n = len(note) // step
    power = (note[: n * step].astype(np.float64) ** 2).sum(axis=1).reshape(n, step).mean(axis=1) + _TINY
    return decay_time_s(power, np.arange(n) / 100)


def compare(ours: Sequence[Sound], theirs: Sequence[Sound], rate_hz: int) -> NoteErrors:
    """Notes against their references."""
    levels = np.array(
        [level_db(a, rate_hz) - level_db(b, rate_hz) for a, b in zip(ours, theirs, strict=True)], np.float64
    )
    gain_db = -float(levels.mean())
    gain = np.float32(10 ** (gain_db / 20))
    sums = np.zeros((2, len(RANGES_S)))
    decays, distances = [], []
    for note, reference in zip(ours, theirs, strict=True):
        matched = note * gain
        sums += envelope_squares(band_levels_db(matched, rate_hz), band_levels_db(reference, rate_hz), rate_hz)
        decays.append(abs(decay_s(note, rate_hz) / decay_s(reference, rate_hz) - 1))
        distances += [
            log_spectral_distance_db(matched[:, channel], reference[:, channel])
            for channel in range(reference.shape[1])
        ]
    return NoteErrors(
        gain_db=gain_db,
        level_db=float(np.sqrt(((levels + gain_db) ** 2).mean())),
        envelope_db=tuple(np.sqrt(sums[0] / sums[1]).tolist()),
        decay_part=float(np.nanmedian(decays)),
        lsd_db=float(np.mean(distances)),
    )


def cents(notes: Sequence[Sound], pitch: int, rate_hz: int) -> float:
    """How sharp a key is against equal temperament at A4 = 440 Hz, from a few of its loud notes."""
    found = tuning.measure(list(notes), pitch, rate_hz)
    return float(1200 * np.log2(found.f0_hz / tuning.equal_tempered_hz(pitch)))


def unevenness_cents(pitches: Sequence[int], all_cents: Sequence[float]) -> float:
    """Rms of what is left of a tuning after a cubic over the keys, which a piano's stretch is: how out of tune with itself."""
    x = (np.array(pitches, float) - 64) / 44
    left = np.array(all_cents) - np.polyval(np.polyfit(x, np.array(all_cents), 3), x)
    return float(np.sqrt((left**2).mean()))
