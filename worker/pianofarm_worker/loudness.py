"""Integrated loudness (ITU-R BS.1770-4), slice by slice in little memory, in NumPy alone.

The K-weighting filters are designed as pyloudnorm designs them (Bristow-Johnson, "Cookbook formulae for audio equalizer biquad
filter coefficients"), at every sample rate. They run as matrix products over blocks of samples: SciPy would do as well, but takes
longer to import than a short piece to render.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.long_arrays import let_go

#: A gating block is four steps of 0.1 s: blocks overlap by three quarters.
_STEPS_PER_S = 10
_STEPS_PER_BLOCK = 4

#: Blocks softer than this never count, nor do those more than 10 LU below the loudness of the blocks above it.
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0

#: Steps filtered at a time.
_SLICE_STEPS = 100

#: Samples of a block that the filters take as one, at most.
_LONGEST_BLOCK = 64

_Array = NDArray[np.float64]


def loudness_lufs(samples: NDArray[np.float32], sample_rate_hz: int) -> float | None:
    """Integrated loudness; None where the standard gives none: shorter than one block of 0.4 s, or all of it below -70 LUFS.

    Args:
        samples: [n_samples, n_channels], mono or stereo, full scale -1..1.
        sample_rate_hz: a multiple of 10, as every common rate is.
    """
    steps = np.array(list(_step_powers(samples, sample_rate_hz)))
    if len(steps) < _STEPS_PER_BLOCK:
        return None
    power = np.convolve(steps, np.full(_STEPS_PER_BLOCK, 1 / _STEPS_PER_BLOCK), "valid")
    loud = power[power > _power(_ABSOLUTE_GATE_LUFS)]
    if not len(loud):
        return None
    gate = max(_power(_ABSOLUTE_GATE_LUFS), float(loud.mean()) * 10 ** (_RELATIVE_GATE_LU / 10))
    return -0.691 + 10 * math.log10(float(loud[loud > gate].mean()))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _step_powers(samples: NDArray[np.float32], sample_rate_hz: int) -> Iterator[float]:
    """Mean square after K-weighting, summed over channels, of every whole step."""
    step = sample_rate_hz // _STEPS_PER_S
    weighting = _Cascade(
        [_high_shelf(1500.0, sample_rate_hz, gain_db=4.0, q=math.sqrt(0.5)), _high_pass(38.0, sample_rate_hz, q=0.5)],
        samples.shape[1],
        block=max(n for n in range(1, _LONGEST_BLOCK + 1) if step % n == 0),
    )
    n_whole = len(samples) // step * step
    for at in range(0, n_whole, _SLICE_STEPS * step):
        part = samples[at : min(at + _SLICE_STEPS * step, n_whole)].astype(np.float64)
        let_go(samples)
        weighted = weighting.push(part.T)
        yield from (weighted.reshape(len(weighted), -1, step) ** 2).mean(axis=2).sum(axis=0)


class _Cascade:
    """Filters of second order one after the other, a block of samples at a time, the state carried on.

    What leaves a block, and the state after it, are linear in what enters and in the state before it; those four matrices are
    the answers of the plain recursion to an impulse and to each state.
    """

    def __init__(self, filters: list[_Array], n_channels: int, *, block: int) -> None:
        """Start in silence.

        Args:
            filters: (b0, b1, b2, a1, a2) of each, for a0 = 1.
            n_channels: filtered alike.
            block: samples taken as one; what is pushed must be a multiple of it.
        """
        n_state = 2 * len(filters)
        heard, states = _answers(filters, block)
        late = np.subtract.outer(np.arange(block), np.arange(block))  # a sample's delay behind another
        self._block = block
        self._through = np.where(late >= 0, heard[late, 0], 0.0).T
        self._from_state = heard[:, 1:].T
        self._into_state = states[::-1, :, 0]
        self._on = states[-1, :, 1:].T
        self._state = np.zeros((n_channels, n_state))

    def push(self, samples: _Array) -> _Array:
        """Samples [n_channels, n] -> the same, filtered."""
        blocks = samples.reshape(len(samples), -1, self._block)
        states = np.concatenate((self._state[:, None], blocks @ self._into_state), axis=1)
        # After one step a state knows of one block before its own, after two of three, then of seven: soon of all.
        reach, on = 1, self._on
        while reach < states.shape[1]:
            states[:, reach:] += states[:, :-reach] @ on
            reach, on = 2 * reach, on @ on
        self._state = states[:, -1]
        return (blocks @ self._through + states[:, :-1] @ self._from_state).reshape(samples.shape)


def _answers(filters: list[_Array], n: int) -> tuple[_Array, _Array]:
    """What filters in a row (transposed direct form 2) give in n samples, and their state after each of them.

    Of the last axis, the first is for an impulse from silence, the others for silence from each state being 1:
    [n, 1 + n_state] and [n, n_state, 1 + n_state].
    """
    n_state = 2 * len(filters)
    state = np.concatenate((np.zeros((n_state, 1)), np.eye(n_state)), axis=1)
    heard, states = np.zeros((n, 1 + n_state)), np.zeros((n, n_state, 1 + n_state))
    heard[0, 0] = 1.0
    for at in range(n):
        y = heard[at]
        for number, (b0, b1, b2, a1, a2) in enumerate(filters):
            x, (first, second) = y, state[2 * number : 2 * number + 2]
            y = b0 * x + first
            state[2 * number : 2 * number + 2] = b1 * x - a1 * y + second, b2 * x - a2 * y
        heard[at], states[at] = y, state
    return heard, states


def _high_shelf(at_hz: float, sample_rate_hz: int, *, gain_db: float, q: float) -> _Array:
    """(b0, b1, b2, a1, a2), a0 being 1, of a filter that lifts what is above `at_hz` by `gain_db`."""
    gain, w = 10 ** (gain_db / 40), 2 * math.pi * at_hz / sample_rate_hz
    more, less, cosine = gain + 1, gain - 1, math.cos(w)
    slope = math.sqrt(gain) * math.sin(w) / q
    b = gain * np.array([more + less * cosine + slope, -2 * (less + more * cosine), more + less * cosine - slope])
    a0, a1, a2 = more - less * cosine + slope, 2 * (less - more * cosine), more - less * cosine - slope
    return np.array([*b, a1, a2]) / a0


def _high_pass(at_hz: float, sample_rate_hz: int, *, q: float) -> _Array:
    """(b0, b1, b2, a1, a2), a0 being 1, of a filter that lets pass what is above `at_hz`."""
    w = 2 * math.pi * at_hz / sample_rate_hz
    cosine, alpha = math.cos(w), math.sin(w) / (2 * q)
    return np.array([(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2, -2 * cosine, 1 - alpha]) / (1 + alpha)
