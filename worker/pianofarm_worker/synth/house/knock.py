"""The knock of hammer and key bed: modes of the soundboard that all keys share, set going by each key in its own way. No notes.

Below 4 kHz most of what the partials leave of an onset is no noise: it is the same from one stroke of a key to the next, and its
modes are the same for all keys. Seventy-seven of them take 10 dB off the residual's first 0.1 s (Salamander Grand, C4 to C7).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled

Float32Array = NDArray[np.float32]

#: Length of a knock; its end is faded out, its beginning faded in as the analysis fades the residual in.
KNOCK_S, FADE_OUT_S, FADE_IN_S = 0.2, 0.06, 0.0015

#: Modes between these frequencies answer alike to velocity.
EDGES_HZ = (250.0, 900.0)

N_GROUPS = len(EDGES_HZ) + 1


def groups(frequency_hz: NDArray[np.floating]) -> NDArray[np.int_]:
    """Which group each mode belongs to, 0..N_GROUPS - 1."""
    return np.asarray(np.searchsorted(EDGES_HZ, frequency_hz))


def mode_sounds(
    frequency_hz: NDArray[np.floating], rate: NDArray[np.floating], sample_rate_hz: int
) -> tuple[Float32Array, Float32Array]:
    """What each mode sounds like at amplitude 1 and at amplitude j, faded in and out. [n_modes, n_samples] each

    Args:
        frequency_hz: [n_modes].
        rate: [n_modes], nepers a second.
        sample_rate_hz: of the sound.
    """
    time_s = np.arange(int(KNOCK_S * sample_rate_hz)) / sample_rate_hz
    fade = np.sin(0.5 * np.pi * np.clip(time_s / FADE_IN_S, 0.0, 1.0)) ** 2
    fade *= np.cos(0.5 * np.pi * np.clip((time_s - KNOCK_S + FADE_OUT_S) / FADE_OUT_S, 0.0, 1.0)) ** 2
    turning = np.exp(np.outer(2j * np.pi * np.asarray(frequency_hz, float) - rate, time_s)) * fade
    return turning.real.astype(np.float32), (-turning.imag).astype(np.float32)


class Knocks:
    """The knocks of all recorded keys, made as they are asked for."""

    def __init__(self, parameters: Mapping[str, Float32Array], sample_rate_hz: int) -> None:
        """Take the weights; nothing is computed yet.

        Args:
            parameters: `knock.frequency_hz`, `knock.rate` [n_modes], `knock.amplitude` [n_keys, 2, n_modes, 2] (channel; real and
                imaginary part) at velocity 127 and `knock.gain_db` [N_GROUPS, 128]; a model without them has no knocks.
            sample_rate_hz: of the sound.
        """
        self._parameters, self._sample_rate_hz = parameters, sample_rate_hz
        self._modes: tuple[Float32Array, Float32Array] | None = None
        self._knocks: dict[int, Float32Array] = {}
        self.n_samples = int(KNOCK_S * sample_rate_hz) if "knock.frequency_hz" in parameters else 0
        gain_db = parameters["knock.gain_db"] if self.n_samples else np.zeros((N_GROUPS, 128), np.float32)
        #: [128, N_GROUPS], linear, by velocity
        self.gain = np.ascontiguousarray(10 ** (gain_db.T / 20), np.float32)

    def of(self, key: int) -> Float32Array:
        """A recorded key's knock at velocity 127, [2, N_GROUPS, n_samples]."""
        if key not in self._knocks:
            self._knocks[key] = self._make(key) if self.n_samples else np.zeros((2, N_GROUPS, 0), np.float32)
        return self._knocks[key]

    def _make(self, key: int) -> Float32Array:
        frequency_hz = self._parameters["knock.frequency_hz"]
        if self._modes is None:
            self._modes = mode_sounds(frequency_hz, self._parameters["knock.rate"], self._sample_rate_hz)
        amplitude, group = self._parameters["knock.amplitude"][key], groups(frequency_hz)
        real, imaginary = self._modes
        parts = [
            amplitude[:, group == g, 0] @ real[group == g] + amplitude[:, group == g, 1] @ imaginary[group == g]
            for g in range(N_GROUPS)
        ]
        return np.ascontiguousarray(np.stack(parts, axis=1), np.float32)


@compiled
def add_knock(sound: Float32Array, at: int, gain: Float32Array, knock: Float32Array) -> None:
    """Add a knock to sound.

    Args:
        sound: [n_channels, long enough].
        at: where it begins.
        gain: [N_GROUPS].
        knock: [n_channels or more, N_GROUPS, n_samples], of a key at velocity 127.
    """
    for channel in range(sound.shape[0]):
        to = sound[channel, at : at + knock.shape[2]]
        for group in range(knock.shape[1]):
            for t in range(len(to)):
                to[t] += gain[group] * knock[channel, group, t]
