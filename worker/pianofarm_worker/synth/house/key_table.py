"""A key's table: what it holds and in which order, so that what is read together lies together. Values only; made in `tables`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.dampers import una_corda_gain
from pianofarm_worker.synth.house.grains import Basis
from pianofarm_worker.synth.house.layout import SLOW

Float32Array = NDArray[np.float32]

#: A partial quieter than this is not synthesized, in dB full scale: with the output gain, half a step of 16 bits.
SILENCE_DB = -85.0

#: Frames that share one count of audible partials.
STRIDE = 32


class Lasts(NamedTuple):
    """How long a key is heard and how loud it gets, by velocity; lists, as a note asks for one number."""

    n_frames: list[int]  #: [128], until the partials are silent
    n_noise_frames: list[int]  #: [128], until the noise is silent
    peak_db: list[float]  #: [128], level of the loudest partial


class Struck(NamedTuple):
    """How loud a key's parts are at one velocity, with the soft pedal where it is."""

    gain: Float32Array  #: [n_partials], linear
    noise_gain: Float32Array  #: [n_bands], linear power
    silence_db: Float32Array  #: [n_partials], levels at velocity 127 that are just not heard
    knock_gain: Float32Array  #: [N_GROUPS], linear


@dataclass(frozen=True)
class KeyTable:
    """What one key sounds like at velocity 127, and what other velocities do to it."""

    frequency_hz: NDArray[np.float64]  #: [n_partials]
    basis: Basis
    shapes: tuple[Float32Array, ...]  #: the same in the spaces of the engine's bundles (`bundles.coordinates`)
    amplitude: NDArray[np.int16]  #: see `in_strides`
    step: Float32Array  #: its unit
    back: NDArray[np.complex64]  #: [n_partials], turns back by one hop
    later_db: Float32Array  #: [n_frames / STRIDE, n_partials], loudest level from that frame on, falling
    gain: Float32Array  #: [128, n_partials], linear, by velocity
    rise: Float32Array  #: [RISE_HOPS, hop], how the note comes in
    n_rise: int  #: samples of it that are not one
    noise: Float32Array  #: [SLOW, n_noise_frames / SLOW, 2, n_bands], full scale^2 per Hz: frames 0, SLOW, 2 SLOW ..., then 1, ...
    early_noise: Float32Array  #: [NOISE_ONSET + 2 SLOW, 2, n_bands], its first frames, one after the other
    noise_gain: Float32Array  #: [128, n_bands], linear power, by velocity
    answer: (
        Float32Array  #: [n_strides + 1, n_partials], what the other strings add to the partials (`resonance.answer`)
    )
    knock: Float32Array  #: [2, N_GROUPS, n_samples], at velocity 127 (`knock.Knocks`)
    knock_gain: Float32Array  #: [128, N_GROUPS], linear, by velocity
    silence_db: Float32Array  #: [128, n_partials], levels at velocity 127 that are just not heard, by velocity
    lasts: Lasts

    def struck(self, velocity: int, soft: float) -> Struck:
        """The key struck at a velocity, the soft pedal down a part 0..1 of its way."""
        gain, noise_gain, silence_db = self.gain[velocity], self.noise_gain[velocity], self.silence_db[velocity]
        knock_gain = self.knock_gain[velocity]
        if soft > 0:
            gain = gain * una_corda_gain(self.frequency_hz, soft)
            noise_gain = noise_gain * np.float32(10 ** (-0.3 * soft))
            silence_db = SILENCE_DB - 20 * np.log10(gain + np.float32(1e-9))
            knock_gain = knock_gain * np.float32(10 ** (-0.1 * soft))
        return Struck(gain, noise_gain, silence_db, knock_gain)


def in_strides(amplitude: NDArray[np.complex64], stride: int = STRIDE) -> tuple[NDArray[np.int16], Float32Array]:
    """Amplitudes as notes read them: what a second of one needs lies close together, in half the bytes.

    Notes read them from memory, which takes longer than what is then computed. Rounding adds noise at -101 dB of the largest in a
    stride.

    Args:
        amplitude: [2, n_strides * stride + 1, n_partials].
        stride: frames that share a unit.

    Returns:
        [n_strides, 2, n_partials, 2, stride + 1] int16, real and imaginary parts: each stride ends with the frame that the next
        one begins with; and their unit, [n_strides, 2, n_partials] float32.
    """
    n_channels, n_frames, n_partials = amplitude.shape
    found = np.empty((n_frames // stride, n_channels, n_partials, 2, stride + 1), np.float32)
    for part, values in enumerate((amplitude.real, amplitude.imag)):
        strides = values[:, :-1].reshape(n_channels, -1, stride, n_partials)
        found[:, :, :, part, :-1] = strides.transpose(1, 0, 3, 2)
        found[:, :, :, part, -1] = values[:, stride::stride].transpose(1, 0, 2)
    largest = np.maximum(found.max(axis=(3, 4)), -found.min(axis=(3, 4)))
    step = np.maximum(largest, np.float32(1e-20)) / np.float32(32767)
    found /= step[..., None, None]
    return np.rint(found, out=found).astype(np.int16), step


def out_of_strides(strides: NDArray[np.int16], step: Float32Array) -> NDArray[np.complex64]:
    """Some of what `in_strides` gives, [n_strides, n_channels, n_partials, 2, STRIDE + 1] -> [n_frames, n_channels, n_partials]."""
    found = strides * step[..., None, None]
    amplitude = found[..., 0, :] + np.complex64(1j) * found[..., 1, :]
    frames = amplitude[..., :-1].transpose(0, 3, 1, 2).reshape(len(amplitude) * STRIDE, *amplitude.shape[1:3])
    return np.concatenate((frames, amplitude[-1:, ..., -1]))


def between(answer: Float32Array) -> Float32Array:
    """[n_strides + 1, n_partials], some rows of `KeyTable.answer` -> [STRIDE n_strides + 1, n_partials]: straight lines between."""
    part = (np.arange(STRIDE, dtype=np.float32) / STRIDE)[:, None]
    lines = answer[:-1, None] + np.diff(answer, axis=0)[:, None] * part
    return np.concatenate((lines.reshape(STRIDE * len(lines), answer.shape[1]), answer[-1:]))


def in_phases(power: Float32Array) -> Float32Array:
    """[n_frames, 2, n_bands] -> [SLOW, n_frames / SLOW, 2, n_bands]: what is read together lies together."""
    return np.ascontiguousarray(power.reshape(-1, SLOW, *power.shape[1:]).swapaxes(0, 1))


def out_of_phases(noise: Float32Array, frame: NDArray[np.int_]) -> Float32Array:
    """Some frames [n] of what `in_phases` gives, [n, 2, n_bands]."""
    return noise[frame % SLOW, frame // SLOW]
