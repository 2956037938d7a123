"""The partials of a live piano: all voices in one matrix product a block. Numpy only; the conventions are those of `additive`.

The grain bases of the pitches that the voices hold, one below the other, are one matrix: what all of them sound in a hop is a
single product of two rows with it. Partials above half the sample rate have no place in it, which is most of them. It is put
together anew when a voice changes its pitch, and only that voice's glide is evaluated by hand. What comes out is what
`additive.Additive` gives, but for rounding.
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
        # A column for every partial that can be heard: its places in arrays of all strings and of all amplitudes, its voice.
        self._place, self._source, self._voice = (np.zeros(0, np.int64) for _ in range(3))
        # The last frame's part in the hop after it: cosines and negated sines times amplitudes, [2, n_columns].
        self._later = np.zeros((2, 0), np.float32)
        self._bases = np.zeros((2 * n_voices * n_strings * n_partials, hop), np.float32)  # room for the largest basis
        self._basis = self._bases[:0]  # [2 n_columns, hop]

    def push(self, pitch: NDArray[np.integer], amplitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Synthesize up to the newest frame.

        Args:
            pitch: [n_frames, n_voices], 0..127: the pitch whose strings the voice moves; 0 makes no sound.
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
        tables, n_frames = self._tables, len(amplitudes)
        changed = np.flatnonzero(pitch != self._pitch).tolist()
        gliding = np.zeros(tables.hop, np.float32)
        for voice in changed:
            old, new = int(self._pitch[voice]), int(pitch[voice])
            phase, last = self._phase[voice], self._amplitudes[voice]
            gliding += glide(tables, phase, old, new, last, amplitudes[0, voice])
            phase += glide_step(tables, old, new) - self._step[voice]  # the step is added below
        self._phase += self._step
        if changed:
            self._retune(changed, pitch)

        turns = np.empty((n_frames, len(self._place)), np.uint64)
        step = self._step.reshape(-1)[self._place]
        turns[0] = (self._phase + self._first).reshape(-1)[self._place]
        for frame in range(1, n_frames):
            np.add(turns[frame - 1], step, out=turns[frame])
        self._phase += self._step * np.uint64(n_frames - 1)
        angle = turns.view(np.int64).astype(np.float32)  # signed: -1/2..1/2 turn
        angle *= _ANGLE
        loudness = amplitudes.reshape(n_frames, -1)[:, self._source]
        # Rows 0..n-1: the later halves of the frames from the last one on; rows n..: the earlier halves of these frames.
        rows = np.empty((2 * n_frames, *self._later.shape), np.float32)
        earlier = rows[n_frames:]
        np.multiply(np.cos(angle), loudness, out=earlier[:, 0])
        np.multiply(np.sin(angle), loudness, out=earlier[:, 1])
        rows[0] = self._later
        rows[1:n_frames, 0] = earlier[:-1, 0]
        np.negative(earlier[:-1, 1], out=rows[1:n_frames, 1])
        self._later[0] = earlier[-1, 0]
        np.negative(earlier[-1, 1], out=self._later[1])
        if changed:
            earlier[0, :, np.isin(self._voice, changed)] = 0
        halves = rows.reshape(2 * n_frames, -1) @ self._basis
        hops = halves[:n_frames]
        hops[:, 1:] += halves[n_frames:, :0:-1]  # the earlier half of a grain counts its samples backwards
        hops[0] += gliding
        self._amplitudes = amplitudes[-1]
        return hops.reshape(-1)

    def _retune(self, changed: list[int], pitch: NDArray[np.integer]) -> None:
        """Give some voices the strings of other pitches, and every partial its column."""
        tables = self._tables
        later = np.zeros((2, *self._phase.shape), np.float32)
        later.reshape(2, -1)[:, self._place] = self._later
        for voice in changed:
            later[:, voice] = 0
            self._pitch[voice] = pitch[voice]
            self._step[voice] = tables.hop_step[pitch[voice]]
            self._first[voice] = tables.half_step[pitch[voice]] * np.uint64(2)
        n_audible = np.where(self._pitch > 0, np.array(tables.n_audible)[self._pitch], 0)
        has_column = np.arange(tables.n_partials) < n_audible[:, None, None]
        has_column = np.broadcast_to(has_column, self._phase.shape)
        self._place = np.flatnonzero(has_column)
        self._voice, string_partial = np.divmod(self._place, tables.n_strings * tables.n_partials)
        self._source = self._voice * tables.n_partials + string_partial % tables.n_partials
        self._later = later.reshape(2, -1)[:, self._place]
        bases = [tables.basis(held) for held in self._pitch.tolist() if held]
        self._basis = self._bases[: 2 * len(self._place)]
        if bases:
            np.concatenate([basis[half] for half in (0, 1) for basis in bases], out=self._basis)
