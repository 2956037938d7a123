"""From the network's raw output to what the synthesizers take: amplitudes of partials, power of noise bands. No recurrence.

`ddsp.core.exp_sigmoid`, `ddsp.synths.FilteredNoise.get_controls` and the additive synthesizer of the published model. Powers of
noise add over the voices, since their noises are independent.

One program of the backend, not NumPy: the loops over elements are fused, and another thread can synthesize meanwhile (NumPy would
ask for the interpreter between any two of its small steps, at 30 us each time when two threads want it).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pianofarm_worker.synth.backend import bind, to_numpy
from pianofarm_worker.synth.published.configs import PublishedConfig
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
        audible = frequency_hz < np.float32(config.sample_rate_hz / 2)
        sounding = f0_hz > np.float32(synthesis.min_frequency_hz)
        # The partials of a string rise: those that are heard are its first ones.
        self._sung: _Array = np.stack((audible.sum(axis=1), sounding[:, 0]), axis=1).astype(np.float32)
        self._run = bind(self._program_alone, ())

    def sung(self, pitch: NDArray[np.integer]) -> _Array:
        """What `program` reads of pitches [...]: [..., 2], how many partials are heard, and 1 where the pitch sounds at all.

        Looked up outside the program: inside, it would be looked up again for every partial.
        """
        sung: _Array = self._sung[pitch]
        return sung

    def run(self, raw: RawControls, pitch: NDArray[np.uint8], factor: _Array, offset: _Array) -> tuple[_Array, _Array]:
        """One block; compiled once for every length of block.

        Args:
            raw: from the monophonic network.
            pitch: [n_frames, n_voices], the active pitch prolonged by the release.
            factor: [n_voices, 1], from `Moments`, or 1.
            offset: [n_voices, n_controls], likewise, or 0.

        Returns:
            Amplitudes [n_voices, n_frames, n_partials] of the partials, all strings together; power [n_frames, n_bands].
        """
        amplitudes, power = self._run(raw.q, raw.step, self.sung(pitch), factor, offset)
        return to_numpy(amplitudes), to_numpy(power)

    def _positive(self, x: Any) -> Any:
        # The sigmoid's logarithm written out takes XLA a third of the time of `ops.log_sigmoid`, and two thirds of that with
        # `log1p`, which would only be nearer where the sigmoid is 1 to the last bit.
        return _MAXIMUM * ops.exp(-_EXPONENT * ops.log(1.0 + ops.exp(-self._gain * x))) + _THRESHOLD

    def _program_alone(self, _no_weights: Any, *arguments: Any) -> Any:
        return self.program(*arguments)

    def program(self, q: Any, step: Any, sung: Any, factor: Any, offset: Any) -> Any:
        """The program itself, for a larger one; factor and offset may have an axis of frames in front."""
        logits = ops.cast(q, "float32") * (step[..., None] * factor) + offset
        n = 1 + self._n_partials
        amplitude = self._positive(logits[..., :1]) * sung[..., 1:]
        # Counting takes a third of the time of reading a table of what is audible, partial by partial.
        audible = ops.cast(ops.arange(1, n, dtype="float32") <= sung[..., :1], "float32")
        distribution = self._positive(logits[..., 1:n])
        if self._normalize_audible:
            distribution = distribution * audible
        total = ops.sum(distribution, axis=-1, keepdims=True)
        amplitudes = distribution * audible * (amplitude / ops.where(total == 0.0, _THRESHOLD, total))
        magnitudes = self._positive(logits[..., n:] + self._bias)
        return ops.transpose(amplitudes, (1, 0, 2)), ops.sum(magnitudes * magnitudes, axis=1)
