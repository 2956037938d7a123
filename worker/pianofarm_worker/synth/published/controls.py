"""From the network's raw output to what the synthesizers take: amplitudes of partials, power of noise bands. No recurrence.

`ddsp.core.exp_sigmoid`, `ddsp.synths.FilteredNoise.get_controls` and the additive synthesizer of the published model. Powers of
noise add over the voices, since their noises are independent.

Twice, and tests hold the two together: `program` is part of a stream's one program, where a call costs more than its arithmetic;
`run` is plain NumPy, voice by voice, for blocks of whole renders. It leaves out the partials above half the sample rate, two thirds
of them in the middle of the keyboard, which a compiled program of fixed shapes cannot.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pianofarm_worker.synth.backend import to_device
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
        audible = frequency_hz < np.float32(config.sample_rate_hz / 2)
        sounding = f0_hz > np.float32(synthesis.min_frequency_hz)
        self.tables = to_device({"audible": audible.astype(np.float32), "sounding": sounding.astype(np.float32)})
        self._audible: _Array = audible.astype(np.float32)
        self._n_audible = audible.sum(axis=1)  # the partials of a string rise, so these are the first ones
        self._sounding: NDArray[np.bool_] = sounding[:, 0]

    def run(self, raw: RawControls, pitch: NDArray[np.uint8], factor: _Array, offset: _Array) -> tuple[_Array, _Array]:
        """One block.

        Args:
            raw: from the monophonic network.
            pitch: [n_frames, n_voices], the active pitch prolonged by the release.
            factor: [n_voices, 1], from `Moments`, or 1.
            offset: [n_voices, n_controls], likewise, or 0.

        Returns:
            Amplitudes [n_voices, n_frames, n_partials] of the partials, all strings together; power [n_frames, n_bands].
        """
        n_frames, n_voices, n_controls = raw.q.shape
        n_other = 1 + self._n_partials
        amplitudes = np.zeros((n_voices, n_frames, self._n_partials), np.float32)
        power = np.zeros((n_frames, n_controls - n_other), np.float32)
        offset = np.broadcast_to(offset, (n_voices, n_controls))
        for voice in range(n_voices):
            scale = raw.step[:, voice, None] * factor[voice]
            magnitudes = raw.q[:, voice, n_other:] * scale
            magnitudes += offset[voice, n_other:] + np.float32(self._bias)
            self._make_positive(magnitudes)
            magnitudes *= magnitudes
            power += magnitudes
            if self._sounding[pitch[:, voice]].any():
                self._partials_of(
                    raw.q[:, voice], scale, offset[voice], pitch[:, voice].astype(np.intp), amplitudes[voice]
                )
        return amplitudes, power

    def _partials_of(
        self, q: NDArray[Any], scale: _Array, offset: _Array, pitch: NDArray[np.intp], amplitudes: _Array
    ) -> None:
        """Fill the amplitudes [n_frames, n_partials] of one voice."""
        n_heard = self._n_audible[pitch]
        n = int(n_heard.max())
        # Where the distribution is made to sum to 1 over all partials, those that are not heard count.
        n_read = n if self._normalize_audible else self._n_partials
        logits = q[:, : 1 + n_read] * scale
        logits += offset[: 1 + n_read]
        self._make_positive(logits)
        distribution = logits[:, 1:]
        if not self._normalize_audible:
            total = distribution.sum(axis=1)
        heard = distribution[:, :n]
        if int(n_heard.min()) < n:
            heard *= self._audible[pitch, :n]
        if self._normalize_audible:
            total = heard.sum(axis=1)
        total[total == 0.0] = _THRESHOLD
        amplitude = logits[:, 0] * self._sounding[pitch]
        amplitude /= total
        np.multiply(heard, amplitude[:, None], out=amplitudes[:, :n])

    def _make_positive(self, x: _Array) -> None:
        """`_positive` in place."""
        x *= np.float32(-self._gain)
        # Far below nothing the exponential is infinite and the result the threshold.
        with np.errstate(over="ignore"):
            np.exp(x, out=x)
        x += np.float32(1.0)
        np.log(x, out=x)
        x *= np.float32(-_EXPONENT)
        np.exp(x, out=x)
        x *= np.float32(_MAXIMUM)
        x += np.float32(_THRESHOLD)

    def _positive(self, x: Any) -> Any:
        # The sigmoid's logarithm written out takes XLA a third of the time of `ops.log_sigmoid`, with the same error of 1e-6.
        return _MAXIMUM * ops.exp(-_EXPONENT * ops.log1p(ops.exp(-self._gain * x))) + _THRESHOLD

    def program(self, tables: Weights, q: Any, step: Any, pitch: Any, factor: Any, offset: Any) -> Any:
        """The same in `keras.ops`, to be part of a larger program; factor and offset may have an axis of frames in front."""
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
