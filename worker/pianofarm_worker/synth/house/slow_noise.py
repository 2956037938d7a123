"""The noise of a note: frame by frame at its onset, in slow frames later, when it hardly changes. Powers only; no sound, no pedals.

Frames are those of the noise bus, slow ones every `SLOW` of them, on one clock for all notes. Powers run straight between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.house.layout import NOISE_ONSET, SLOW
from pianofarm_worker.synth.house.noise_bus import NoiseBus
from pianofarm_worker.synth.house.voices import Voice

Float32Array = NDArray[np.float32]

#: Frames of noise in a hop of partials.
NOISE_FRAMES = 2

#: How the onset falls while the slow frames take over.
_FALLING = 1 - np.arange(SLOW, dtype=np.float32) / SLOW


def slow_from(noise_first: int) -> int:
    """The frame of noise, a slow one, from which on a note goes over to slow frames."""
    return -(-(noise_first + NOISE_ONSET) // SLOW) * SLOW


def add_onset(bus: NoiseBus, voice: Voice, kept: Float32Array) -> None:
    """Add the noise of a note's onset, until the slow frames have taken over.

    Args:
        bus: what to add to.
        voice: the note.
        kept: [n_hops], what damping leaves of the note.
    """
    last = voice.slow_from
    n_own, n = last - voice.noise_first, min(last + SLOW, voice.noise_until) - voice.noise_first
    part = np.repeat(kept * kept, NOISE_FRAMES)[:n]
    part[n_own:] *= _FALLING[: max(0, n - n_own)]
    bus.add(voice.noise_first, voice.table.early_noise, voice.noise_gain, part)


@compiled
def add_slow(
    to: Float32Array, noise: Float32Array, since: int, low: int, high: int, gain: Float32Array, part: Float32Array
) -> None:
    """Add a note's noise to slow frames.

    Args:
        to: [n_slow, n_channels, n_bands], full scale^2 per Hz.
        noise: [SLOW, n_frames / SLOW, n_channels or more, n_bands], see `key_table.KeyTable`.
        since: frames of noise from the note's first one to the first slow one.
        low: the note is heard in slow frames that do not come before this frame of noise, counted from the first slow one,
        high: and come before this one.
        gain: [n_bands].
        part: [n_slow], what is left of it.
    """
    slow = noise.shape[0]
    for i in range(max(0, -(-low // slow)), min(to.shape[0], -(-high // slow))):
        frame, phase = divmod(since + i * slow, slow)
        for channel in range(to.shape[1]):
            own = noise[phase, frame, channel]
            for band in range(len(gain)):
                to[i, channel, band] += own[band] * gain[band] * part[i]
