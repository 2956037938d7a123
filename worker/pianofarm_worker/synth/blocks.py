"""Chunks of any length in, blocks of one fixed length out, so that bytes never depend on how a caller cut the frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class Reblock:
    """Several arrays that share one axis, collected and handed on in blocks of `length`, the last one shorter."""

    def __init__(self, length: int, *axes: int) -> None:
        """Set up.

        Args:
            length: of every block but the last.
            axes: for each array of a `push`, the axis to cut.
        """
        self._length = length
        self._axes = axes
        self._waiting: list[tuple[NDArray[np.generic], ...]] = []
        self._n_waiting = 0

    def push(self, *arrays: NDArray[np.generic]) -> Iterator[tuple[NDArray[np.generic], ...]]:
        """Take a chunk; give the blocks it completes (views of it where no chunk before it was left over)."""
        n_new = arrays[0].shape[self._axes[0]]
        start = 0
        while self._n_waiting + n_new - start >= self._length:
            end = start + self._length - self._n_waiting
            self._waiting.append(self._cut(arrays, start, end))
            yield from self.rest()
            start = end
        if start < n_new:
            self._waiting.append(self._cut(arrays, start, n_new))
            self._n_waiting += n_new - start

    def rest(self) -> Iterator[tuple[NDArray[np.generic], ...]]:
        """Give what is left as one last, shorter block, if anything is."""
        chunks, self._waiting, self._n_waiting = self._waiting, [], 0
        if len(chunks) == 1:
            yield chunks[0]
        elif chunks:
            columns = zip(*chunks, strict=True)
            yield tuple(np.concatenate(column, axis=axis) for column, axis in zip(columns, self._axes, strict=True))

    def _cut(self, arrays: tuple[NDArray[np.generic], ...], start: int, end: int) -> tuple[NDArray[np.generic], ...]:
        return tuple(
            array[(slice(None),) * axis + (slice(start, end),)] for array, axis in zip(arrays, self._axes, strict=True)
        )
