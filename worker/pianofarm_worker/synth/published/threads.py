"""One render on several threads: groups of voices side by side, and the next chunk while this one is worked on. No arithmetic.

The array libraries and NumPy's products let other threads run while they compute. A voice's row gives the same bytes in a group of
any size, so the audio does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.published.monophonic import MonophonicNetwork, RawControls

_T = TypeVar("_T")


class VoiceGroups:
    """A monophonic network whose voices are dealt out to the threads of a pool."""

    def __init__(self, network: MonophonicNetwork, n_voices: int, n_groups: int, pool: Executor) -> None:
        edges = np.linspace(0, n_voices, min(n_groups, n_voices) + 1).astype(int)
        self._network, self._pool = network, pool
        self._groups = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]

    def initial_state(self) -> list[Any]:
        """The state before the first frame, group by group."""
        return [self._network.initial_state(group.stop - group.start) for group in self._groups]

    def run(
        self, notes: NDArray[np.float32], pitch: NDArray[np.uint8], context: NDArray[np.float32], states: list[Any]
    ) -> tuple[RawControls, list[Any]]:
        """One chunk, as `MonophonicNetwork.run`."""
        running = [
            self._pool.submit(self._network.run, notes[:, group], pitch[:, group], context, state)
            for group, state in zip(self._groups, states, strict=True)
        ]
        done = [future.result() for future in running]
        raw = [chunk for chunk, _ in done]
        joined = RawControls(
            *(np.concatenate(parts, axis=1) for parts in zip(*((r.q, r.step, r.sums) for r in raw), strict=True))
        )
        return joined, [state for _, state in done]


def ahead(items: Iterator[_T], pool: Executor) -> Generator[_T, None, None]:
    """The same items, each next one made on the pool while the caller works on the one before."""
    end = object()
    coming = pool.submit(next, items, end)
    try:
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
    finally:
        # A caller that stops early must not close what the pool still reads.
        coming.exception()
