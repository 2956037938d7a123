"""One render on several threads: groups of voices side by side, and the next chunk while this one is worked on. No arithmetic.

The array libraries let other threads run while they compute. NumPy does so as well, but asks for the interpreter between any two
operations: of threads that run at a time one at most should be in NumPy. A voice's row gives the same bytes in a group of any size
from two on, so the audio does not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np

from pianofarm_worker.synth.published.monophonic import RawControls

_T = TypeVar("_T")

#: Voices of the smallest group. A product with a single row is another program, which sums in another order.
_FEWEST_VOICES = 2


def grouped_voices(
    run: Callable[[slice], Iterator[RawControls]], n_voices: int, n_groups: int, pool: Executor
) -> Generator[RawControls, None, None]:
    """The raw controls of all voices, whose groups run on the pool, each of them up to a chunk ahead.

    Args:
        run: the chunks of a group of voices.
        n_voices: in all.
        n_groups: wanted; there are fewer where a group would have a single voice.
        pool: with a thread for every group.
    """
    edges = np.linspace(0, n_voices, max(1, min(n_groups, n_voices // _FEWEST_VOICES)) + 1).astype(int).tolist()
    with contextlib.ExitStack() as stack:
        groups = [
            stack.enter_context(contextlib.closing(ahead(run(slice(*group)), pool)))
            for group in itertools.pairwise(edges)
        ]
        for chunks in zip(*groups, strict=True):
            parts = zip(*((chunk.q, chunk.step, chunk.sums) for chunk in chunks), strict=True)
            yield RawControls(*(np.concatenate(part, axis=1) for part in parts))


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
