"""From the network's raw output to what the synthesizers take: amplitudes of partials, power of noise bands. No recurrence.

`ddsp.core.exp_sigmoid`, `ddsp.synths.FilteredNoise.get_controls` and the additive synthesizer of the published model, in one
program. Powers of noise add over the voices, since their noises are independent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pianofarm_worker.synth.backend import bind, to_device, to_numpy
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.layers import Weights
from pianofarm_worker.synth.published.monophonic import RawControls
from pianofarm_worker.synth.published.tuning import TuningTables

_Array = NDArray[np.float32]

_MAXIMUM, _THRESHOLD, _EXPONENT = 2.0, 1e-7, math.log(10.0)


class Controls:
    """The scaling of one piano of a model."""

    def __init__(self, config: PublishedConfig, tables: TuningTables) -> None:
        synthesis = config.synthesis
        # (tanh(x) + 1) / 2 is sigmoid(2 x).
        self._gain = 2.0 if synthesis.scale == "exp_tanh" else 1.0
        self._bias = synthesis.noise_bias
        self._n_partials = synthesis.n_partials
        self._normalize_audible = synthesis.normalize_audible
        number = np.arange(1, synthesis.n_partials + 1, dtype=np.float32)
        f0_hz = tables.f0_hz[:, :1]
        frequency_hz = f0_hz * number * np.sqrt(number**2 * tables.inharmonicity[:, None] + np.float32(1))
        self.tables = to_device(
            {
                "audible": (frequency_hz < np.float32(config.sample_rate_hz / 2)).astype(np.float32),
                "sounding": (f0_hz > np.float32(synthesis.min_frequency_hz)).astype(np.float32),
            }
        )
        self._run = bind(self.program, self.tables)

    def run(self, raw: RawControls, pitch: NDArray[np.uint8], factor: _Array, offset: _Array) -> tuple[_Array, _Array]:
        """One chunk.

        Args:
            raw: from the monophonic network.
            pitch: [n_frames, n_voices], the active pitch prolonged by the release.
            factor: [n_voices, 1], from `Moments`, or 1.
            offset: [n_voices, n_controls], likewise, or 0.

        Returns:
            Amplitudes [n_voices, n_frames, n_partials] of the partials, all strings together; power [n_frames, n_bands].
        """
        amplitudes, power = self._run(raw.q, raw.step, pitch.astype(np.int32), factor, offset)
        return to_numpy(amplitudes), to_numpy(power)

    def _positive(self, x: Any) -> Any:
        # The sigmoid's logarithm written out takes XLA a third of the time of `ops.log_sigmoid`, with the same error of 1e-6.
        return _MAXIMUM * ops.exp(-_EXPONENT * ops.log1p(ops.exp(-self._gain * x))) + _THRESHOLD

    def program(self, tables: Weights, q: Any, step: Any, pitch: Any, factor: Any, offset: Any) -> Any:
        """What `run` compiles, to be part of a larger program; factor and offset may have an axis of frames in front."""
        logits = ops.cast(q, "float32") * (step[..., None] * factor) + offset
        n = 1 + self._n_partials
        amplitude = self._positive(logits[..., :1]) * ops.take(tables["sounding"], pitch, axis=0)
        audible = ops.take(tables["audible"], pitch, axis=0)
        distribution = self._positive(logits[..., 1:n])
        if self._normalize_audible:
            distribution = distribution * audible
        total = ops.sum(distribution, axis=-1, keepdims=True)
        amplitudes = distribution * audible * (amplitude / ops.where(total == 0.0, _THRESHOLD, total))
        magnitudes = self._positive(logits[..., n:] + self._bias)
        return ops.transpose(amplitudes, (1, 0, 2)), ops.sum(magnitudes * magnitudes, axis=1)
