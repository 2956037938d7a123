"""The noise of a note: frame by frame at its onset, in slow frames later, when it hardly changes. Powers only; no sound, no pedals.

Frames are those of the noise bus, slow ones every `SLOW` of them, on one clock for all notes. Powers run straight between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.voices import Voice

Float32Array = NDArray[np.float32]

#: Frames of noise in a hop of partials.
NOISE_FRAMES = 2

#: Frames that noise keeps to itself at its onset; later its powers are added up every `SLOW` frames.
NOISE_ONSET, SLOW = 16, 4


def onset_power(voice: Voice, n_channels: int, kept: Float32Array | None) -> Float32Array:
    """The noise of a note's onset, until the slow frames have taken over. [n_channels, n_frames, n_bands], full scale^2 per Hz

    Args:
        voice: the note.
        n_channels: of the sound.
        kept: [n_hops], what damping leaves of the note; None for all.
    """
    last = slow_from(voice)
    high = min(last + SLOW, voice.noise_until)
    n = high - voice.noise_first
    power: Float32Array = voice.table.noise[:n_channels, :n] * voice.noise_gain
    if kept is not None:
        power *= np.repeat(kept * kept, NOISE_FRAMES)[:n, None]
    if high > last:
        power[:, last - voice.noise_first :] *= 1 - np.arange(high - last, dtype=np.float32)[:, None] / SLOW
    return power


def add_slow_power(voice: Voice, kept_power: Float32Array | None, start: int, powers: Float32Array) -> None:
    """Add a note's noise to slow frames.

    Args:
        voice: the note.
        kept_power: [n_slow], what damping leaves of its power; None for all.
        start: the first slow frame, in frames of noise.
        powers: [n_channels, n_slow, n_bands], what to add to.
    """
    low, high = slow_frames(slow_from(voice) + SLOW, voice.noise_until, start, powers.shape[1])
    if high > low:
        first = start + low * SLOW - voice.noise_first
        rows = voice.table.noise[: len(powers), first : first + (high - low - 1) * SLOW + 1 : SLOW]
        own = rows * voice.noise_gain
        if kept_power is not None:
            own *= kept_power[low:high, None]
        powers[:, low:high] += own


def slow_from(voice: Voice) -> int:
    """The frame of noise, a slow one, from which on a voice goes over to slow frames."""
    return -(-(voice.noise_first + NOISE_ONSET) // SLOW) * SLOW


def slow_frames(low: int, high: int, start: int, n_slow: int) -> tuple[int, int]:
    """Which of `n_slow` slow frames, the first of which is frame `start`, lie in low..high - 1, counted in frames of noise."""
    return max(0, -(-(low - start) // SLOW)), min(n_slow, -(-(high - start) // SLOW))


def between(powers: Float32Array) -> Float32Array:
    """Slow frames -> frames, straight lines between: [n_channels, n_slow + 1, n_bands] -> [n_channels, SLOW n_slow, n_bands]."""
    part = (np.arange(SLOW, dtype=np.float32) / SLOW)[:, None]
    between = powers[:, :-1, None] + np.diff(powers, axis=1)[:, :, None] * part
    return np.asarray(between.reshape(powers.shape[0], -1, powers.shape[2]), np.float32)
