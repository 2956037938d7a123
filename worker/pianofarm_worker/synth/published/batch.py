"""The networks of several pieces at once: rows of one batch, chunk by chunk, each piece exact. No audio.

The batch always has the same number of places, those of pieces that are missing or over filled with zeros, so that the programs
are compiled for one shape. A row of a product depends on that row alone: what a piece gives depends neither on its neighbours nor
on its place. It does depend on the number of places, in the last bits: a library sums a product of other shape in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth import long_arrays
from pianofarm_worker.synth.piano import Progress
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.context import ContextNetwork
from pianofarm_worker.synth.published.moments import Moments
from pianofarm_worker.synth.published.monophonic import MonophonicNetwork, RawControls

_Array = NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """Conditioning of one piece of a batch."""

    notes: _Array  #: [n_frames, n_voices, 2], active pitch 0..127 and onset velocity 0..1
    pedal: _Array  #: [n_frames, 4], 0..1
    seed: int  #: of the noise
    n_counted: int | None = None  #: frames whose moments count where the model normalises; None: all


class Batch:
    """Networks with a fixed number of places for pieces."""

    def __init__(
        self,
        config: PublishedConfig,
        weights: dict[str, _Array],
        context: ContextNetwork,
        monophonic: MonophonicNetwork,
        *,
        n_places: int,
        chunk_frames: int,
    ) -> None:
        self._config, self._weights = config, weights
        self._context, self._monophonic = context, monophonic
        self._n_places, self._chunk = n_places, chunk_frames

    def contexts(self, pieces: Sequence[Piece], report: Progress) -> list[_Array]:
        """The context of each piece, [n_frames, n_context]."""
        width = self._config.context.n_out
        contexts: list[_Array] = [long_arrays.zeros((len(piece.notes), width), np.float32) for piece in pieces]
        moments = [
            Moments(self._weights, "context", n_counted=piece.n_counted) if self._context.normalizes else None
            for piece in pieces
        ]
        notes, pedals = [piece.notes for piece in pieces], [piece.pedal for piece in pieces]
        state = self._context.initial_state(self._n_places)
        n_frames = _longest(notes)
        for start in range(0, n_frames, self._chunk):
            q, sums, state = self._context.run(self._together(notes, start), self._together(pedals, start), state)
            for place, context in enumerate(contexts):
                n = _n_left(context, start, self._chunk)
                context[start : start + n] = q[:n, place]
                long_arrays.let_go(context)
                taken = moments[place]
                if taken and n:
                    taken.add(sums[:n, place : place + 1])
            report(min(1.0, (start + self._chunk) / n_frames))
        for context, taken in zip(contexts, moments, strict=True):
            if taken and len(context):
                taken.normalize(context)
        return contexts

    def raw(
        self, pieces: Sequence[Piece], pitches: Sequence[NDArray[np.uint8]], contexts: Sequence[_Array]
    ) -> Iterator[list[RawControls]]:
        """Raw controls, a chunk of every piece at a time; of a piece that is over a chunk of no frames.

        Args:
            pieces: at most as many as there are places.
            pitches: of each piece [n_frames, n_voices], the active pitch prolonged by the release.
            contexts: of each piece, from `contexts`.
        """
        n_voices = self._config.n_voices
        notes = [piece.notes for piece in pieces]
        state = self._monophonic.initial_state(self._n_places * n_voices)
        for start in range(0, _longest(notes), self._chunk):
            raw, state = self._monophonic.run(
                self._together(notes, start).reshape(self._chunk, -1, 2),
                self._together(pitches, start).reshape(self._chunk, -1),
                self._together(contexts, start),
                state,
            )
            chunks = []
            for place, piece in enumerate(pieces):
                n, rows = _n_left(piece.notes, start, self._chunk), slice(place * n_voices, (place + 1) * n_voices)
                # Copies: who keeps a piece must not keep the whole batch.
                chunks.append(RawControls(raw.q[:n, rows].copy(), raw.step[:n, rows].copy(), raw.sums[:n, rows].copy()))
            yield chunks

    def _together(self, arrays: Sequence[NDArray[Any]], start: int) -> NDArray[Any]:
        """A chunk of every piece, [n_frames, n_places, ...], zeros where there is none."""
        chunk = np.zeros((self._chunk, self._n_places, *arrays[0].shape[1:]), arrays[0].dtype)
        for place, array in enumerate(arrays):
            n = _n_left(array, start, self._chunk)
            chunk[:n, place] = array[start : start + n]
            long_arrays.let_go(array)
        return chunk


def buckets(lengths: Sequence[int], n_places: int) -> list[list[int]]:
    """Indices of pieces to run together, the longest first: a batch takes as long as its longest piece."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[start : start + n_places] for start in range(0, len(order), n_places)]


def _longest(arrays: Sequence[NDArray[Any]]) -> int:
    return max(len(array) for array in arrays)


def _n_left(array: NDArray[Any], start: int, n: int) -> int:
    return max(0, min(n, len(array) - start))
