"""The additive synthesizer with the rounding errors of the published code, to compare renders sample by sample. Slow.

`ddsp.core.angular_cumsum` adds up phases in float32, a thousand samples at a time. Its errors grow in proportion to time, by 0.1
rad a second and more in high partials: inaudible, but soon two waveforms differ by a fifth although nothing else does. The
products of `synth.additive` have no such errors and are 100 times faster; this one repeats them addition by addition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.partials import PartialTables

_Array = NDArray[np.float32]

#: Samples after which `angular_cumsum` begins a new sum.
_SUM_SAMPLES = 1000
_TURN = np.float32(2 * np.pi)


class RoundedAdditive:
    """The additive part of one render; pushed and finished as `additive.Additive` is, with the same results but for rounding."""

    def __init__(self, tables: PartialTables, n_voices: int) -> None:
        self._tables, self._n_voices = tables, n_voices
        self._radians = (tables.turns * (2 * np.pi)).astype(np.float32)
        self._fade_in = tables.fade_in.astype(np.float32)[:, None]
        shape = (n_voices, tables.n_strings, tables.n_partials)
        self._sum = np.zeros(shape, np.float32)  # of the thousand samples at hand
        self._offset = np.zeros(shape, np.float32)  # of the thousands before
        self._n_summed = 0
        self._n_hops = 0
        self._last: tuple[NDArray[np.integer], _Array] | None = None  # pitch and amplitudes of the newest frame

    def push(self, pitch: NDArray[np.integer], amplitudes: _Array) -> _Array:
        """Pitch [n_voices, n_frames], amplitudes [n_voices, n_frames, n_partials] -> [n_samples], up to the newest frame."""
        if self._last is not None:
            pitch = np.concatenate([self._last[0], pitch], axis=1)
            amplitudes = np.concatenate([self._last[1], amplitudes], axis=1)
        self._last = pitch[:, -1:].copy(), amplitudes[:, -1:].copy()
        return self._synthesize(pitch, amplitudes)

    def finish(self) -> _Array:
        """The last hop, in which the newest frame is held."""
        if self._last is None:
            return np.zeros(0, np.float32)
        pitch, amplitudes = self._last
        return self._synthesize(np.repeat(pitch, 2, axis=1), np.repeat(amplitudes, 2, axis=1))

    def _synthesize(self, pitch: NDArray[np.integer], amplitudes: _Array) -> _Array:
        """All voices from the first to the last of these frames."""
        hop, n_hops = self._tables.hop, pitch.shape[1] - 1
        # Where a sample lies between two frames, as TensorFlow's image resizing finds it: 1/96 is no float32.
        frame = np.arange(self._n_hops, self._n_hops + n_hops).astype(np.float32)[:, None]
        sample = (np.arange(n_hops * hop) + self._n_hops * hop).astype(np.float32).reshape(n_hops, hop)
        fraction = (sample * (np.float32(1) / np.float32(hop)) - frame)[..., None, None]
        audio = np.zeros((n_hops, hop), np.float32)
        for voice in range(self._n_voices):
            radians = self._radians[pitch[voice]]
            radians = radians[:-1, None] + (radians[1:] - radians[:-1])[:, None] * fraction
            heard = amplitudes[voice].any(axis=1)
            heard = heard[1:] | heard[:-1]
            phases = self._accumulate(voice, radians)[heard] % _TURN
            wave = np.cos(phases) * (radians[heard] < np.float32(np.pi))
            before, after = amplitudes[voice, :-1][heard][:, None], amplitudes[voice, 1:][heard][:, None]
            envelope = before * (1 - self._fade_in) + after * self._fade_in
            audio[heard] += np.einsum("fhsk,fhk->fh", wave, envelope) / np.float32(self._tables.n_strings)
        self._n_hops += n_hops
        self._n_summed = (self._n_summed + n_hops * hop) % _SUM_SAMPLES
        return audio.reshape(-1)

    def _accumulate(self, voice: int, radians: _Array) -> _Array:
        """Phases of a voice, [n_hops, hop, n_strings, n_partials]."""
        phases = radians.reshape(-1, *radians.shape[2:]).copy()
        edges = [*range(_SUM_SAMPLES - self._n_summed, len(phases), _SUM_SAMPLES), len(phases)]
        for start, end in zip([0, *edges[:-1]], edges, strict=True):
            sums = phases[start:end]
            if not len(sums):
                continue
            sums[0] += self._sum[voice]
            np.cumsum(sums, axis=0, out=sums)
            self._sum[voice] = sums[-1]
            sums += self._offset[voice] % _TURN
            if (self._n_summed + end) % _SUM_SAMPLES == 0:
                self._offset[voice] += self._sum[voice] % _TURN
                self._sum[voice] = 0
        return phases.reshape(radians.shape)
