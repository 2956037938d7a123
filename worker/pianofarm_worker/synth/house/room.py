"""The room: an impulse response made of noise that dies as measured, band by band. No convolution here (`synth.reverb`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.noise_bus import NoiseBus

#: The room is the same in every render: its noise does not depend on the render's seed.
_SEED = 0x526F6F6D

#: The first reflection comes this long after the sound itself.
PRE_DELAY_S = 0.012

#: The response ends where it has fallen this far.
_FALL_DB = 60.0


def room_response(
    t60_s: NDArray[np.float32], at_hz: NDArray[np.float32], level_db: float, layout: Layout, n_channels: int
) -> NDArray[np.float32]:
    """The room's response, without the direct sound.

    Args:
        t60_s: [n], reverberation times.
        at_hz: [n], rising, the frequencies they hold at.
        level_db: energy of the response below that of the direct sound, for white noise; negative.
        layout: of the model.
        n_channels: independent responses of the same room.

    Returns:
        [n_samples, n_channels] float32.
    """
    bands = layout.bands
    centres_hz = np.maximum(band_centres_hz(bands.n_bands, layout.sample_rate_hz), 20.0)
    band_t60_s = np.exp(np.interp(np.log(centres_hz), np.log(at_hz), np.log(t60_s)))
    n_frames = int(band_t60_s.max() * _FALL_DB / 60 * layout.sample_rate_hz / bands.hop)
    time_s = np.arange(n_frames)[:, None] * (bands.hop / layout.sample_rate_hz)
    power = (10 ** (-6.0 * time_s / band_t60_s)).astype(np.float32)
    bus = NoiseBus(layout, n_channels, _SEED, ordered=True)
    bus.add(0, np.repeat(power[:, None], n_channels, axis=1))
    sound = bus.play(0, (n_frames + 1) * bands.hop)
    sound *= np.float32(10 ** (level_db / 20)) / np.sqrt((sound**2).sum(axis=1, keepdims=True))
    silence = np.zeros((n_channels, int(PRE_DELAY_S * layout.sample_rate_hz)), np.float32)
    return np.ascontiguousarray(np.concatenate([silence, sound], axis=1).T)
