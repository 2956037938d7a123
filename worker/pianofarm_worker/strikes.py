"""What is heard where keys are struck: how far a note's own partials rise, and how loud they become. Measures; judges nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance
from pianofarm_worker.synth.long_arrays import let_go

FloatArray = NDArray[np.float64]

#: Three windows of this length are looked at: one from the strike on, and two before it.
WINDOW_S = 0.064

#: Partials whose power is summed, and how far below and above its harmonic frequency a partial may lie: from C6 on pianos are tuned
#: sharp, the last octave by more than half of a semitone.
N_PARTIALS = 4
REACH = 0.02
REACH_OF_C8 = 0.045

#: The windows are averaged down to no less than this before they are transformed: no fundamental lies above its half.
LOWEST_RATE_HZ = 16_000

#: Strikes that are looked at, spread over the piece: this bounds the cost whatever its length.
MAX_STRIKES = 96

#: Keys that are looked at: below, partials lie nearer than the window tells apart.
KEYS = range(36, 109)

#: Softer strikes are left out, as velocity: the noise of some models hides them.
SOFTEST = 16

#: Left out are strikes of a key that was struck less than this before, for its string still sounds;
AGAIN_S = 2.0

#: those softer by this, as velocity, than another in the time before, whose sound hides them under the pedal;
SOFTER = 24

#: and those with more than this many others in the three windows.
MAX_NEIGHBOURS = 12

#: Resolution in time of the loudest strikes before a strike.
_BIN_S = 0.25


@dataclass(frozen=True)
class Strikes:
    """The strikes that were looked at. Levels are those of the note's own partials, all together."""

    note: NDArray[np.int64]  #: [n_strikes], which note of the performance
    level_db: FloatArray  #: [n_strikes], dB of a full-scale sine, from the strike on
    rise_db: FloatArray  #: [n_strikes], from the window before
    drift_db: FloatArray  #: [n_strikes], to the window before from the one before that: what these partials do without a strike


def clear_strikes(
    performance: Performance, samples: NDArray[np.float32], sample_rate_hz: int, *, until_s: float
) -> Strikes:
    """Look at strikes that must be heard as such.

    Args:
        performance: the notes that are in the samples.
        samples: [n_samples, n_channels], full scale -1..1; channels are summed.
        sample_rate_hz: their rate.
        until_s: later strikes are not in the samples.

    Returns:
        At most `MAX_STRIKES`; none where no strike is clear.
    """
    fold = max(sample_rate_hz // LOWEST_RATE_HZ, 1)
    n_window = round(WINDOW_S * sample_rate_hz / fold)
    n_samples = n_window * fold
    first = np.round(performance.onset_s * sample_rate_hz).astype(np.int64)
    inside = (first >= 2 * n_samples) & (first + n_samples <= len(samples)) & (performance.onset_s < until_s)
    note = np.flatnonzero(inside & _is_clear(performance))
    if len(note) > MAX_STRIKES:
        note = note[np.linspace(0, len(note) - 1, MAX_STRIKES).astype(np.int64)]
    frames = np.empty((len(note), 3, n_window), np.float32)
    for row, start in enumerate((first[note] - 2 * n_samples).tolist()):
        part = samples[start : start + 3 * n_samples]
        frames[row] = part.reshape(3, n_window, -1).sum(axis=2)
        let_go(samples)
    levels_db = _own_levels_db(
        frames / np.float32(fold), performance.pitch[note].astype(np.float64), sample_rate_hz / fold
    )
    earlier_db, before_db, level_db = levels_db.T
    return Strikes(note, level_db, level_db - before_db, before_db - earlier_db)


def _is_clear(performance: Performance) -> NDArray[np.bool_]:
    """[n_notes]: the strike is of a key that is looked at, and nothing before it or with it hides it."""
    onset_s, pitch, velocity = performance.onset_s, performance.pitch, performance.velocity
    clear: NDArray[np.bool_] = (pitch >= KEYS.start) & (pitch < KEYS.stop) & (velocity >= SOFTEST)
    if not clear.any():
        return clear
    by_key = np.lexsort((onset_s, pitch))
    again = (np.diff(pitch[by_key].astype(np.int64)) == 0) & (np.diff(onset_s[by_key]) < AGAIN_S)
    clear[by_key[1:][again]] = False
    span_s = WINDOW_S * np.array([-2.0, 1.0])
    begin, end = (np.searchsorted(onset_s, onset_s + edge_s) for edge_s in span_s)
    clear &= end - begin <= MAX_NEIGHBOURS + 1
    time_bin = (onset_s / _BIN_S).astype(np.int64)
    n_before = round(AGAIN_S / _BIN_S)
    loudest = np.zeros(int(time_bin[-1]) + 1 + n_before, np.int64)
    np.maximum.at(loudest, time_bin + n_before, velocity.astype(np.int64))
    lately = np.lib.stride_tricks.sliding_window_view(loudest, n_before + 1).max(axis=1)
    clear &= velocity.astype(np.int64) + SOFTER > lately[time_bin]
    return clear


def _own_levels_db(frames: NDArray[np.float32], pitch: FloatArray, rate_hz: float) -> FloatArray:
    """[n_strikes, n_windows], dB of a full-scale sine: what a note's partials have in its windows.

    Args:
        frames: [n_strikes, n_windows, n_window], full scale -1..1.
        pitch: [n_strikes].
        rate_hz: of the frames.
    """
    n_window = frames.shape[2]
    window = np.hanning(n_window + 2)[1:-1].astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=2)
    below = np.zeros((*frames.shape[:2], n_window // 2 + 2))
    np.cumsum(spectrum.real**2 + spectrum.imag**2, axis=2, dtype=np.float64, out=below[:, :, 1:])
    partials_bin = 440.0 * 2.0 ** ((pitch[:, None] - 69) / 12) * np.arange(1, N_PARTIALS + 1) * (n_window / rate_hz)
    above = 1 + REACH + (REACH_OF_C8 - REACH) * np.clip((pitch[:, None] - 84) / 24, 0, 1)
    n_bins = n_window // 2 + 1
    low = np.minimum(np.floor((1 - REACH) * partials_bin), n_bins).astype(np.int64)
    past = np.minimum(np.ceil(above * partials_bin) + 1, n_bins).astype(np.int64)
    strike = np.arange(len(frames))[:, None]
    own = (below[strike, :, past] - below[strike, :, low]).sum(axis=1)
    levels_db: FloatArray = 10 * np.log10(np.maximum(own * (2 / float(window.sum())) ** 2, 1e-20))
    return levels_db
