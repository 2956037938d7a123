"""The noise of a note: frame by frame at its onset, in slow frames later, when it hardly changes. Powers only; no sound, no pedals.

Frames are those of the noise bus, slow ones every `SLOW` of them, on one clock for all notes. Powers run straight between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.layout import NOISE_ONSET, SLOW
from pianofarm_worker.synth.house.noise_bus import NoiseBus, add_power
from pianofarm_worker.synth.house.voices import Voice

Float32Array = NDArray[np.float32]

#: Frames of noise in a hop of partials.
NOISE_FRAMES = 2

#: How the onset falls while the slow frames take over.
_FALLING = 1 - np.arange(SLOW, dtype=np.float32) / SLOW


def add_onset(bus: NoiseBus, voice: Voice, kept: Float32Array) -> None:
    """Add the noise of a note's onset, until the slow frames have taken over.

    Args:
        bus: what to add to.
        voice: the note.
        kept: [n_hops], what damping leaves of the note.
    """
    last = slow_from(voice)
    n_own, n = last - voice.noise_first, min(last + SLOW, voice.noise_until) - voice.noise_first
    part = np.repeat(kept * kept, NOISE_FRAMES)[:n]
    part[n_own:] *= _FALLING[: n - n_own]
    bus.add(voice.noise_first, voice.table.early_noise, voice.noise_gain, part)


def add_slow_power(voice: Voice, kept_power: Float32Array, start: int, powers: Float32Array) -> None:
    """Add a note's noise to slow frames.

    Args:
        voice: the note.
        kept_power: [n_slow], what damping leaves of its power.
        start: the first slow frame, in frames of noise.
        powers: [n_slow, n_channels, n_bands], what to add to.
    """
    low, high = slow_frames(slow_from(voice) + SLOW, voice.noise_until, start, len(powers))
    if high > low:
        first, phase = divmod(start + low * SLOW - voice.noise_first, SLOW)
        add_power(powers[low:high], voice.table.noise[phase], first, voice.noise_gain, kept_power[low:high])


def slow_from(voice: Voice) -> int:
    """The frame of noise, a slow one, from which on a voice goes over to slow frames."""
    return -(-(voice.noise_first + NOISE_ONSET) // SLOW) * SLOW


def slow_frames(low: int, high: int, start: int, n_slow: int) -> tuple[int, int]:
    """Which of `n_slow` slow frames, the first of which is frame `start`, lie in low..high - 1, counted in frames of noise."""
    return max(0, -(-(low - start) // SLOW)), min(n_slow, -(-(high - start) // SLOW))


def between(values: Float32Array, n_steps: int) -> Float32Array:
    """Straight lines from each value to the next, in steps: [n + 1, ...] -> [n_steps * n, ...]."""
    part = np.arange(n_steps, dtype=np.float32).reshape(-1, *(1,) * (values.ndim - 1)) / n_steps
    found = values[:-1, None] + np.diff(values, axis=0)[:, None] * part
    return np.asarray(found.reshape(n_steps * (len(values) - 1), *values.shape[1:]), np.float32)
