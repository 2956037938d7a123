"""How loud each note of a performance is in its audio, and which notes a model has no voice for. Measures; draws nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo

FloatArray = NDArray[np.float64]

#: The sound of a note that is looked at, from its onset; the end counts less and less, for the highest notes last no longer.
WINDOW_S = 0.25

#: The window rises in this time.
RISE_S = 0.005

#: Partials that may be measured. Higher ones are further from their place the stiffer the string is.
N_PARTIALS = 4

#: A partial is looked for within this part of its harmonic frequency, below and above: tuning and stiffness move it. From C6 on
#: pianos are tuned sharp, and in the top octave by more than half of a semitone: C8 of house-1 lies 3.4 % high.
REACH = 0.02
REACH_OF_C8 = 0.045

#: A partial counts as hidden where one of another note that sounds lies this near, in bins of the window.
NEAREST_BINS = 3.0

#: Strings ring on after the key by this, as far as hiding the partials of others goes.
RINGS_ON_S = 0.3

#: More notes than this are measured in samples: every second, every third ...
MAX_MEASURED = 5000

#: Keys of a piano; models leave the others out.
_KEYS = range(21, 109)

_FRAME_RATE_HZ = 250


def note_levels_dbfs(samples: NDArray[np.float32], sample_rate_hz: int, performance: Performance) -> FloatArray:
    """Level of each note's strongest partial that no other note hides, in the `WINDOW_S` after its onset.

    Args:
        samples: [n_samples, n_channels], full scale -1..1.
        sample_rate_hz: their rate.
        performance: the notes that are in it.

    Returns:
        [n_notes], dBFS of a sine; NaN where all partials are hidden, the note is not in the samples, or it was not looked at.
    """
    levels_dbfs = np.full(performance.n_notes(), np.nan)
    n_window = round(WINDOW_S * sample_rate_hz)
    mono = samples.mean(axis=1, dtype=np.float64)
    window = np.hanning(2 * n_window)[n_window:]
    n_rise = round(RISE_S * sample_rate_hz)
    window[:n_rise] *= np.sin(np.linspace(0, np.pi / 2, n_rise)) ** 2
    # Four times as fine as the window tells apart: the highest bin is then within 0.2 dB of the peak.
    n_fft = 4 * (1 << (n_window - 1).bit_length())
    hz = sample_rate_hz / n_fft
    every = math.ceil(performance.n_notes() / MAX_MEASURED) or 1
    others = _Others(performance)
    for note in range(0, performance.n_notes(), every):
        first = round(performance.onset_s[note] * sample_rate_hz)
        if first + n_window > len(mono):
            continue
        free_hz = others.free_partials_hz(note, sample_rate_hz / 2)
        if not len(free_hz):
            continue
        power = np.abs(np.fft.rfft(mono[first : first + n_window] * window, n_fft)) ** 2
        above = 1 + _reach(int(performance.pitch[note]))
        strongest = max(
            float(power[int((1 - REACH) * partial_hz / hz) : int(above * partial_hz / hz) + 2].max())
            for partial_hz in free_hz
        )
        levels_dbfs[note] = 10 * math.log10(max(strongest * (2 / window.sum()) ** 2, 1e-20))
    return levels_dbfs


def _reach(pitch: int) -> float:
    """How far above its harmonic frequency a partial is looked for, as a part of it."""
    return REACH + (REACH_OF_C8 - REACH) * max(0, pitch - 84) / 24


class _Others:
    """Which partials of a note are free of those of the notes that sound with it."""

    def __init__(self, performance: Performance) -> None:
        self._onset_s, self._pitch = performance.onset_s, performance.pitch
        self._end_s = performance.offset_s + RINGS_ON_S
        self._f0_hz = 440.0 * 2.0 ** ((performance.pitch.astype(float) - 69) / 12)
        #: How long the longest note is: none that begins earlier than this before another can still sound in it.
        self._longest_s = float((self._end_s - self._onset_s).max(initial=0.0))

    def free_partials_hz(self, note: int, highest_hz: float) -> FloatArray:
        """Harmonic frequencies of the partials of a note that no other hides, at most `highest_hz`."""
        onset_s = self._onset_s[note]
        first, last = np.searchsorted(self._onset_s, [onset_s - self._longest_s, onset_s + WINDOW_S])
        near = np.arange(first, last)
        near = near[(self._end_s[near] > onset_s) & (self._f0_hz[near] != self._f0_hz[note])]
        numbers = np.arange(1, N_PARTIALS + 1)
        mine_hz: FloatArray = numbers * self._f0_hz[note]
        reach = _reach(int(self._pitch[note]))
        mine_hz = mine_hz[mine_hz * (1 + reach) < highest_hz]
        # Others have partials above those that are measured, and they are heard too.
        theirs_hz = np.outer(np.unique(self._f0_hz[near]), np.arange(1, 4 * N_PARTIALS + 1)).ravel()
        distance_hz = np.abs(mine_hz[:, None] - theirs_hz)
        hidden = distance_hz < np.maximum(NEAREST_BINS / WINDOW_S, 2 * reach * mine_hz[:, None])
        return mine_hz[~hidden.any(axis=1)]


def dropped_notes(performance: Performance, model: ModelInfo) -> NDArray[np.bool_]:
    """[n_notes]: notes that this model cannot play: no key of a piano, or left without a voice while their key is down."""
    on_piano = (performance.pitch >= _KEYS.start) & (performance.pitch < _KEYS.stop)
    dropped: NDArray[np.bool_] = ~on_piano
    if model.max_polyphony is None or not performance.n_notes():
        return dropped
    from pianofarm_worker.synth.published.conditioning import conditioning

    voices = conditioning(performance, n_voices=model.max_polyphony, frame_rate_hz=_FRAME_RATE_HZ).notes[..., 0]
    start = np.minimum((performance.onset_s * _FRAME_RATE_HZ).astype(int), len(voices) - 1)
    end = np.clip((performance.offset_s * _FRAME_RATE_HZ).astype(int), start + 1, len(voices))
    for pitch in np.unique(performance.pitch[on_piano]).tolist():
        voiceless = np.concatenate(([0], np.cumsum(~(voices == pitch).any(axis=1))))
        mine = performance.pitch == pitch
        dropped[mine] = voiceless[end[mine]] > voiceless[start[mine]]
    return dropped


def rank_correlation(velocity: NDArray[np.uint8], levels_dbfs: FloatArray) -> float | None:
    """Spearman's: 1 where a harder stroke is always louder; None where there is nothing to compare."""
    measured = np.isfinite(levels_dbfs)
    if measured.sum() < 3 or np.ptp(velocity[measured]) == 0 or np.ptp(levels_dbfs[measured]) == 0:
        return None
    return float(np.corrcoef(rankdata(velocity[measured]), rankdata(levels_dbfs[measured]))[0, 1])
