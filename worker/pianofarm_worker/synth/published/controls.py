"""From the network's raw output to what the synthesizers take: amplitudes of partials, power of noise bands. No recurrence.

`ddsp.core.exp_sigmoid`, `ddsp.synths.FilteredNoise.get_controls` and the additive synthesizer of the published model. Powers of
noise add over the voices, since their noises are independent.

One compiled loop, for renders and streams and for either backend: each voice's partials are computed as far as they are heard (half
of them in a dense piece), where a program of a backend computes all of them.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled_fused, inlined
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.tuning import TuningTables

_Array = NDArray[np.float32]

#: Elements that the loop handles at a time, where a row has as many.
_LANES: Final = 16

_MAXIMUM: Final = np.float32(2.0)
_THRESHOLD: Final = np.float32(1e-7)
_EXPONENT: Final = np.float32(math.log(10.0))
_LOG2_E: Final = np.float32(math.log2(math.e))


class Controls:
    """The scaling of one piano of a model."""

    def __init__(self, config: PublishedConfig, tables: TuningTables) -> None:
        synthesis = config.synthesis
        # (tanh(x) + 1) / 2 is sigmoid(2 x).
        self._gain = np.float32(2.0 if synthesis.scale == "exp_tanh" else 1.0)
        self._bias = np.float32(synthesis.noise_bias)
        self._n_partials, self._n_bands = synthesis.n_partials, synthesis.n_noise_bands
        number = np.arange(1, synthesis.n_partials + 1, dtype=np.float32)
        f0_hz = tables.f0_hz[:, :1]
        frequency_hz = f0_hz * number * np.sqrt(number**2 * tables.inharmonicity[:, None] + np.float32(1))
        audible = frequency_hz < np.float32(config.sample_rate_hz / 2)
        sounding = f0_hz[:, 0] > np.float32(synthesis.min_frequency_hz)
        # The partials of a string rise: those that are heard are its first ones.
        self._n_heard = audible.sum(axis=1) * sounding
        self._n_shared = self._n_heard if synthesis.normalize_audible else synthesis.n_partials * sounding

    def run(
        self, q: NDArray[Any], step: _Array, pitch: NDArray[np.uint8], factor: _Array, offset: _Array
    ) -> tuple[_Array, _Array]:
        """Some frames.

        Args:
            q: [n_frames, n_voices, n_controls], from the monophonic network (`RawControls`): int16 in units of `step`, or float32.
            step: [n_frames, n_voices].
            pitch: [n_frames, n_voices], the active pitch prolonged by the release.
            factor: [n_voices, 1], from `Moments`, or 1.
            offset: [n_voices, n_controls], likewise, or [n_voices, 1] of 0.

        Returns:
            Amplitudes [n_voices, n_frames, n_partials] of the partials, all strings together; power [n_frames, n_bands].
        """
        n_frames, n_voices = pitch.shape
        amplitudes = np.empty((n_voices, n_frames, self._n_partials), np.float32)
        power = np.zeros((n_frames, self._n_bands), np.float32)
        own = np.empty((n_voices, q.shape[2]), np.float32)
        np.multiply(offset, self._gain, out=own)
        own[:, 1 + self._n_partials :] += self._gain * self._bias
        q = np.ascontiguousarray(q).view()
        q.flags.writeable = (
            False  # for arrays that may be written a compiled loop is another program: backends give both kinds
        )
        unit = step * factor[:, 0] * self._gain
        _scale(q, unit, own, self._n_heard[pitch], self._n_shared[pitch], amplitudes, power)
        return amplitudes, power


@compiled_fused
def _scale(
    q: NDArray[Any],
    step: _Array,
    offset: _Array,
    n_heard: NDArray[np.int64],
    n_shared: NDArray[np.int64],
    amplitudes: _Array,
    power: _Array,
) -> None:
    """Logits q step + offset -> amplitudes and power.

    Args:
        q: [n_frames, n_voices, 1 + n_partials + n_bands], int16 or float32.
        step: [n_frames, n_voices].
        offset: [n_voices, 1 + n_partials + n_bands].
        n_heard: [n_frames, n_voices], partials that are heard: the first ones.
        n_shared: [n_frames, n_voices], partials that share the amplitude.
        amplitudes: [n_voices, n_frames, n_partials], overwritten.
        power: [n_frames, n_bands], added to.
    """
    n_voices, n_frames, n_partials = amplitudes.shape
    n_bands = power.shape[1]
    lanes = np.empty(_LANES, np.float32)
    magnitudes = np.empty(n_bands, np.float32)
    for voice in range(n_voices):
        own = offset[voice]
        for frame in range(n_frames):
            row, unit, loud = q[frame, voice], step[frame, voice], amplitudes[voice, frame]
            shared, heard = n_shared[frame, voice], n_heard[frame, voice]
            reach = min(n_partials, -(-shared // _LANES) * _LANES)
            _positive_row(row[1 : 1 + reach], unit, own[1 : 1 + reach], loud[:reach])
            loud[shared:] = 0
            if shared > 0:
                gain = _positive(np.float32(row[0]) * unit + own[0]) / _sum(loud[:reach], lanes)
                for k in range(reach):
                    loud[k] *= gain
                loud[heard:] = 0
            _positive_row(row[1 + n_partials :], unit, own[1 + n_partials :], magnitudes)
            total = power[frame]
            for k in range(n_bands):
                total[k] += magnitudes[k] * magnitudes[k]


@inlined
def _positive_row(row: NDArray[Any], unit: np.float32, offset: _Array, found: _Array) -> None:
    """`_positive` of row unit + offset, [n] each."""
    n_whole = len(found) // _LANES * _LANES
    for low in range(0, n_whole, _LANES):
        x, y, to = row[low : low + _LANES], offset[low : low + _LANES], found[low : low + _LANES]
        for k in range(_LANES):
            to[k] = _positive(np.float32(x[k]) * unit + y[k])
    for k in range(n_whole, len(found)):
        found[k] = _positive(np.float32(row[k]) * unit + offset[k])


@inlined
def _sum(row: _Array, lanes: _Array) -> np.float32:
    """The sum of a row [n], by lanes [_LANES], which are overwritten: one after the other would take as long as all the rest."""
    n_whole = len(row) // _LANES * _LANES
    lanes[:] = 0
    for low in range(0, n_whole, _LANES):
        x = row[low : low + _LANES]
        for k in range(_LANES):
            lanes[k] += x[k]
    total = np.float32(0)
    for k in range(_LANES):
        total += lanes[k]
    for k in range(n_whole, len(row)):
        total += row[k]
    return total


@inlined
def _positive(x: np.float32) -> np.float32:
    """`ddsp.core.exp_sigmoid`: 2 sigmoid(x)^ln(10) + 1e-7, to 2e-6 of itself.

    The sigmoid's logarithm is that of 1 + exp(-x), which is what float32 leaves of it. What is no number stays none: by its bits it
    would be a silence that no gate sees.
    """
    turned = _exp2(min(max(x * -_LOG2_E, np.float32(-100)), np.float32(100)))
    power = _exp2(max(-_EXPONENT * _log2(np.float32(1) + turned), np.float32(-120)))
    return x if np.isnan(x) else _MAXIMUM * power + _THRESHOLD


@inlined
def _exp2(x: np.float32) -> np.float32:
    """2^x for -126 <= x <= 127: 2^n by its bits, and a polynomial on -1/2..1/2 (Cephes, `exp2f`)."""
    whole = np.rint(x)
    f = x - whole
    p = np.float32(1.535336188319500e-4)
    p = p * f + np.float32(1.339887440266574e-3)
    p = p * f + np.float32(9.618437357674640e-3)
    p = p * f + np.float32(5.550332471162809e-2)
    p = p * f + np.float32(2.402264791363012e-1)
    p = p * f + np.float32(6.931472028550421e-1)
    p = p * f + np.float32(1.0)
    bits = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return np.float32(p * bits.view(np.float32))


@inlined
def _log2(x: np.float32) -> np.float32:
    """log2(x) for x >= 1: the exponent's bits, and a polynomial on sqrt(1/2)..sqrt(2) (Cephes, `logf`)."""
    bits = np.float32(x).view(np.int32)
    whole = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    r = np.int32(bits - (whole << np.int32(23))).view(np.float32) - np.float32(1)
    p = np.float32(7.0376836292e-2)
    p = p * r - np.float32(1.1514610310e-1)
    p = p * r + np.float32(1.1676998740e-1)
    p = p * r - np.float32(1.2420140846e-1)
    p = p * r + np.float32(1.4249322787e-1)
    p = p * r - np.float32(1.6668057665e-1)
    p = p * r + np.float32(2.0000714765e-1)
    p = p * r - np.float32(2.4999993993e-1)
    p = p * r + np.float32(3.3333331174e-1)
    natural = r - np.float32(0.5) * r * r + p * r * r * r
    return natural * _LOG2_E + np.float32(whole)
