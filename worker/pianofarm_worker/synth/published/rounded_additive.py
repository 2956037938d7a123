"""The additive synthesizer with the rounding errors of the published code, to compare two renders sample by sample. Slow; not for audio.

`ddsp.core.angular_cumsum` adds up phases in float32, a thousand samples at a time. Its errors grow in proportion to time, by 0.1
rad a second and more in high partials: inaudible, but by then two waveforms differ by a fifth although nothing else does. The
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
    """The additive part of one render; pushed and finished as `additive.Additive` is, with the same results but for the rounding."""

    def __init__(self, tables: PartialTables, n_voices: int) -> None:
        self._tables, self._n_voices = tables, n_voices
        self._radians = (tables.turns * (2 * np.pi)).astype(np.float32)
        self._fade_in = tables.fade_in.astype(np.float32)[:, None, None]
        shape = (n_voices, tables.n_strings, tables.n_partials)
        self._sum = np.zeros(shape, np.float32)  # of the thousand samples at hand
        self._offsets = np.zeros(shape, np.float32)  # of the thousands before
        self._n_summed = 0
        self._last: tuple[NDArray[np.integer], _Array] | None = None  # pitch and amplitudes of the newest frame

    def push(self, pitch: NDArray[np.integer], amplitudes: _Array) -> _Array:
        """Pitch [n_voices, n_frames], amplitudes [n_voices, n_frames, n_partials] -> [n_samples], up to the newest frame."""
        if self._last is not None:
            pitch = np.concatenate([self._last[0], pitch], axis=1)
            amplitudes = np.concatenate([self._last[1], amplitudes], axis=1)
        self._last = pitch[:, -1:].copy(), amplitudes[:, -1:].copy()
        hops = [
            self._hop(pitch[:, f], pitch[:, f + 1], amplitudes[:, f], amplitudes[:, f + 1])
            for f in range(pitch.shape[1] - 1)
        ]
        return np.concatenate([np.zeros(0, np.float32), *hops])

    def finish(self) -> _Array:
        """The last hop, in which the newest frame is held."""
        if self._last is None:
            return np.zeros(0, np.float32)
        pitch, amplitudes = self._last
        return self._hop(pitch[:, 0], pitch[:, 0], amplitudes[:, 0], amplitudes[:, 0])

    def _hop(
        self, pitch_from: NDArray[np.integer], pitch_to: NDArray[np.integer], a_from: _Array, a_to: _Array
    ) -> _Array:
        """[hop]: all voices between two frames."""
        tables = self._tables
        sample = np.arange(tables.hop, dtype=np.float32)[:, None, None] / np.float32(tables.hop)
        audio = np.zeros(tables.hop, np.float32)
        n_left = _SUM_SAMPLES - self._n_summed
        for voice in range(self._n_voices):
            start, end = self._radians[pitch_from[voice]], self._radians[pitch_to[voice]]
            radians = start + (end - start) * sample
            parts = [self._advance(voice, radians[:n_left])]
            if n_left <= tables.hop:
                self._offsets[voice] += self._sum[voice] % _TURN
                self._sum[voice] = 0
                parts.append(self._advance(voice, radians[n_left:]))
            if a_from[voice].any() or a_to[voice].any():
                wave = np.cos(np.concatenate(parts)) * (radians < np.float32(np.pi))
                envelope = a_from[voice] * (1 - self._fade_in) + a_to[voice] * self._fade_in
                audio += (wave * envelope).sum(axis=(1, 2)) / np.float32(tables.n_strings)
        self._n_summed = (self._n_summed + tables.hop) % _SUM_SAMPLES
        return audio

    def _advance(self, voice: int, radians: _Array) -> _Array:
        """Phases of [n] samples of a voice, [n, n_strings, n_partials]."""
        if not len(radians):
            return radians
        sums = radians.copy()
        sums[0] += self._sum[voice]
        np.cumsum(sums, axis=0, out=sums)
        self._sum[voice] = sums[-1]
        return (sums + self._offsets[voice] % _TURN) % _TURN
