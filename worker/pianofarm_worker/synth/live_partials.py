"""The partials of a live piano: all voices in one matrix product a block. Numpy only; the conventions are those of `additive`.

A voice keeps the grain basis of its pitch while it holds it, so that the basis of the whole piano is one matrix: what every
voice sounds in a hop, summed, is a single product with it, of two rows a hop. Only the voice that changes its pitch is touched by
hand. What it gives is what `additive.Additive` gives, but for rounding.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.additive import glide, glide_step
from pianofarm_worker.synth.partials import TURN, PartialTables, Turns

_ANGLE = np.float32(2 * np.pi / TURN)


class LivePartials:
    """The additive part of a stream, fed a few frames at a time."""

    def __init__(self, tables: PartialTables, n_voices: int) -> None:
        """Start in silence, all voices at pitch 0."""
        self._tables = tables
        n_strings, n_partials, hop = tables.n_strings, tables.n_partials, tables.hop
        self._pitch = np.zeros(n_voices, np.int64)
        self._amplitudes = np.zeros((n_voices, n_partials), np.float32)  # of the last frame
        self._phase: Turns = np.zeros((n_voices, n_strings, n_partials), np.uint64)  # one sample before it
        self._step: Turns = np.repeat(tables.hop_step[:1], n_voices, axis=0)
        self._first: Turns = np.repeat(tables.half_step[:1] * np.uint64(2), n_voices, axis=0)  # one sample's advance
        # The last frame's part in the hop after it: cosines and negated sines times amplitudes, as the rows of `_basis`.
        self._later = np.zeros((n_voices, 2, n_strings, n_partials), np.float32)
        self._basis = np.zeros((n_voices, 2, n_strings, n_partials, hop), np.float32)

    def push(self, pitch: NDArray[np.integer], amplitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Synthesize up to the newest frame.

        Args:
            pitch: [n_frames, n_voices], 0..127: the pitch whose strings the voice moves.
            amplitudes: [n_frames, n_voices, n_partials], of the partials, all strings together.

        Returns:
            [n_frames * hop] float32, starting with the hop before the first of these frames.
        """
        before = np.concatenate((self._pitch[None], pitch[:-1]))
        changes = np.flatnonzero((pitch != before).any(axis=1)).tolist()
        edges = [0, *(frame for frame in changes if frame), len(pitch)]
        runs = [self._run(pitch[start], amplitudes[start:end]) for start, end in pairwise(edges)]
        return np.concatenate(runs) if len(runs) > 1 else runs[0]

    def _run(self, pitch: NDArray[np.integer], amplitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames of which only the first may bring new pitches."""
        tables = self._tables
        n_frames, n_voices, _ = amplitudes.shape
        changed = np.flatnonzero(pitch != self._pitch).tolist()
        gliding = np.zeros(tables.hop, np.float32)
        for voice in changed:
            old, new = int(self._pitch[voice]), int(pitch[voice])
            phase, last = self._phase[voice], self._amplitudes[voice]
            gliding += glide(tables, phase, old, new, last, amplitudes[0, voice])
            phase += glide_step(tables, old, new) - self._step[voice]  # the step is added below
        self._phase += self._step
        for voice in changed:
            self._retune(voice, int(pitch[voice]))

        shape = n_frames, n_voices, tables.n_strings, tables.n_partials
        turns = np.empty(shape, np.uint64)
        np.add(self._phase, self._first, out=turns[0])
        for frame in range(1, n_frames):
            np.add(turns[frame - 1], self._step, out=turns[frame])
        self._phase += self._step * np.uint64(n_frames - 1)
        angle = turns.view(np.int64).astype(np.float32)  # signed: -1/2..1/2 turn
        angle *= _ANGLE
        loudness = amplitudes[:, :, None, :]
        # Rows 0..n-1: the later halves of the frames from the last one on; rows n..: the earlier halves of these frames.
        rows = np.empty((2 * n_frames, n_voices, 2, *shape[2:]), np.float32)
        earlier = rows[n_frames:]
        np.multiply(np.cos(angle), loudness, out=earlier[:, :, 0])
        np.multiply(np.sin(angle), loudness, out=earlier[:, :, 1])
        rows[0] = self._later
        rows[1:n_frames, :, 0] = earlier[:-1, :, 0]
        np.negative(earlier[:-1, :, 1], out=rows[1:n_frames, :, 1])
        self._later[:, 0] = earlier[-1, :, 0]
        np.negative(earlier[-1, :, 1], out=self._later[:, 1])
        for voice in changed:
            rows[0, voice] = 0
            earlier[0, voice] = 0
        halves = rows.reshape(2 * n_frames, -1) @ self._basis.reshape(-1, tables.hop)
        hops = halves[:n_frames]
        hops[:, 1:] += halves[n_frames:, :0:-1]  # the earlier half of a grain counts its samples backwards
        hops[0] += gliding
        self._amplitudes = amplitudes[-1]
        return hops.reshape(-1)

    def _retune(self, voice: int, pitch: int) -> None:
        """Give a voice the strings of another pitch."""
        tables = self._tables
        n = tables.n_audible[pitch]
        self._pitch[voice] = pitch
        self._step[voice] = tables.hop_step[pitch]
        self._first[voice] = tables.half_step[pitch] * np.uint64(2)
        for half, basis in zip(self._basis[voice], tables.basis(pitch), strict=True):
            half[:, :n] = basis.reshape(tables.n_strings, n, tables.hop)
            half[:, n:] = 0
