"""Integrated loudness (ITU-R BS.1770-4), slice by slice in little memory; the K-weighting filters are pyloudnorm's."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pyloudnorm
from numpy.typing import NDArray
from scipy.signal import sosfilt

#: A gating block is four steps of 0.1 s: blocks overlap by three quarters.
_STEPS_PER_S = 10
_STEPS_PER_BLOCK = 4

#: Blocks softer than this never count, nor do those more than 10 LU below the loudness of the blocks above it.
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0

#: Steps filtered at a time.
_SLICE_STEPS = 100


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
    filters = (
        pyloudnorm.IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, sample_rate_hz, "high_shelf"),
        pyloudnorm.IIRfilter(0.0, 0.5, 38.0, sample_rate_hz, "high_pass"),
    )
    sections = np.array([[*stage.b, *stage.a] for stage in filters])
    state = np.zeros((len(filters), 2, samples.shape[1]))
    step = sample_rate_hz // _STEPS_PER_S
    n_whole = len(samples) // step * step
    for at in range(0, n_whole, _SLICE_STEPS * step):
        part = samples[at : min(at + _SLICE_STEPS * step, n_whole)].astype(np.float64)
        weighted, state = sosfilt(sections, part, axis=0, zi=state)
        yield from (weighted.reshape(-1, step, samples.shape[1]) ** 2).mean(axis=1).sum(axis=1)
