"""How a recording lies to its MIDI: how much later it sounds, and how many semitones higher. Judges nothing, opens no file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.tuning import equal_tempered_hz, typical_inharmonicity

#: Delays looked for, either way.
SEARCHED_S = 15.0

#: Correlation of heard and written onsets from which a delay is believed. Measured on first minutes of sixteen pieces that the
#: house piano played: 0.82 to 0.94 with their own MIDI, at most 0.36 with another piece's; on passages that four other
#: instruments played 0.69 to 0.89, in a room louder than the piano 0.40 to 0.73.
SURE = 0.4

#: Correlation from which no delay to speak of is believed: another piece's onsets agree best at any of 3,000 delays, hardly ever
#: there. White noise 10 dB below the music, or onsets that are 20 to 30 ms off, leave 0.2 to 0.5.
PLAUSIBLE = 0.2

#: Delays up to this are none to speak of.
SMALL_LAG_S = 0.05

#: A smaller delay is preferred to the best one when it explains the onsets this nearly as well: music repeats itself.
_NEARLY = 0.95

#: Transpositions looked for.
TRANSPOSITIONS = tuple(range(-12, 13))

_FRAME_S = 0.01


def lag(
    onset_s: NDArray[np.floating], velocity: NDArray[np.integer], sound: NDArray[np.float32], rate_hz: int
) -> float | None:
    """How much later than the MIDI the sound's onsets are, in seconds; None where they do not agree at any delay.

    Args:
        onset_s: of the notes, [n_notes].
        velocity: likewise.
        sound: [n_samples, n_channels].
        rate_hz: of the sound.
    """
    rise = _onset_strength(sound, rate_hz)
    rise -= rise.mean()
    struck = np.zeros(len(rise))
    heard = (onset_s >= 0) & (onset_s < len(rise) * _FRAME_S)
    np.add.at(struck, (onset_s[heard] / _FRAME_S).astype(int), velocity[heard].astype(float) / 127)
    # A chord is one onset, and one that falls between two frames is heard in both.
    struck = np.convolve(np.minimum(struck, 2.0), [0.5, 1.0, 0.5], "same")
    struck -= struck.mean()
    scale = float(np.sqrt((rise**2).sum() * (struck**2).sum()))
    if scale <= 0:
        return None
    n_fft = 1 << (2 * len(rise)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(rise, n_fft) * np.conj(np.fft.rfft(struck, n_fft)), n_fft) / scale
    reach, near = (min(int(searched_s / _FRAME_S), len(rise) - 1) for searched_s in (SEARCHED_S, SMALL_LAG_S))
    around = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    best = int(np.argmax(around))
    nearest = reach - near + int(np.argmax(around[reach - near : reach + near + 1]))
    if around[nearest] >= _NEARLY * around[best]:
        best = nearest
    wanted = PLAUSIBLE if best == nearest else SURE
    return float((best - reach) * _FRAME_S) if around[best] >= wanted else None


def transposition(
    onset_s: NDArray[np.floating], pitch: NDArray[np.integer], sound: NDArray[np.float32], rate_hz: int
) -> int:
    """By how many semitones the sound is higher than the MIDI, by the partials that begin where notes do.

    Args:
        onset_s: of the notes, where they are heard, [n_notes].
        pitch: likewise, MIDI.
        sound: [n_samples, n_channels].
        rate_hz: of the sound.
    """
    channel = _loudest(sound)
    n = int(0.2 * rate_hz)
    n_fft = 1 << (2 * n - 1).bit_length()
    window = np.hanning(n)
    chosen = np.flatnonzero((pitch >= 45) & (pitch <= 84))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), 120)).astype(int)] if len(chosen) else chosen
    scores = np.zeros(len(TRANSPOSITIONS))
    for note in chosen:
        at = int(onset_s[note] * rate_hz)
        if at < n or at + n // 8 + n > len(channel):
            continue
        # What was there before the note is not the note's.
        parts = channel[at + n // 8 : at + n // 8 + n], channel[at - n : at]
        after, before = (np.abs(np.fft.rfft(part * window, n_fft)) for part in parts)
        new_db = 20 * np.log10((after + 1e-9 * after.max() + 1e-12) / (before + 1e-3 * after.max() + 1e-12))
        for index, off in enumerate(TRANSPOSITIONS):
            scores[index] += _at_partials(new_db, int(pitch[note]) + off, rate_hz / n_fft)
    best = int(np.argmax(scores))
    own = scores[TRANSPOSITIONS.index(0)]
    return TRANSPOSITIONS[best] if scores[best] > own + 2.0 * max(1, len(chosen)) else 0


def _onset_strength(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """By how much the spectrum rises, frame by frame; in logarithms, so that soft notes are onsets among loud ones."""
    step = int(_FRAME_S * rate_hz)
    n = 4 * step
    frames = np.lib.stride_tricks.sliding_window_view(_loudest(sound), n)[::step]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(n).astype(np.float32), axis=1)).astype(np.float32)
    spectrum = np.log1p(1000 * spectrum / (spectrum.max() + 1e-12))
    strength = np.zeros(len(frames) + 2)
    # A frame is of the time its middle has.
    strength[3:-1] = np.clip(spectrum[2:] - spectrum[:-2], 0, None).sum(axis=1)
    return strength


def _loudest(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """One channel: a mix could cancel, and one may be silent."""
    return sound[:, int(np.argmax((sound.astype(np.float64) ** 2).sum(axis=0)))]


def _at_partials(level_db: NDArray[np.float64], pitch: int, bin_hz: float) -> float:
    k = np.arange(1, 6)
    f0_hz, b = equal_tempered_hz(pitch), typical_inharmonicity(pitch)
    on = np.round(k * f0_hz * np.sqrt(1 + b * k**2) / bin_hz).astype(int)
    between = np.round((k - 0.5) * f0_hz / bin_hz).astype(int)
    on, between = (np.clip(bins, 1, len(level_db) - 2) for bins in (on, between))
    on_db = np.maximum.reduce([level_db[on - 1], level_db[on], level_db[on + 1]])
    return float(np.clip(on_db, 0, 40).mean() - np.clip(level_db[between], 0, 40).mean())
