"""Raw controls of a whole performance, held until its moments are known. No networks, no scaling."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.frame_store import MEMORY_BYTES, FrameStore
from pianofarm_worker.synth.published.moments import Moments
from pianofarm_worker.synth.published.monophonic import RawControls

_Array = NDArray[np.float32]


class HeldControls:
    """Written once in order, then read once in order. Use it as a context manager: that removes the temporary file."""

    def __init__(
        self,
        config: PublishedConfig,
        weights: dict[str, _Array],
        *,
        n_counted: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Start with no frames.

        Args:
            config: of the model.
            weights: of the model.
            n_counted: frames whose moments count, where the model has any; None: all.
            memory_bytes: held in memory, what comes after in a temporary file.
        """
        normalizes = config.monophonic.normalize
        self._n_voices = config.n_voices
        self._moments = Moments(weights, "mono", n_counted=n_counted) if normalizes else None
        dtype = np.int16 if normalizes else np.float32
        self._store = FrameStore((config.n_voices, config.n_controls), dtype, memory_bytes=memory_bytes)
        self._steps = FrameStore((config.n_voices,), np.float32, memory_bytes=memory_bytes // 8)
        self._n_frames = 0

    def __enter__(self) -> Self:
        self._store.__enter__()
        self._steps.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, traceback)
        self._steps.__exit__(kind, error, traceback)

    def append(self, raw: RawControls) -> None:
        """Take the next chunk; its arrays must not change afterwards.

        Raises:
            DiskFull: the folder for temporary files is full.
        """
        self._store.append(raw.q)
        self._steps.append(raw.step)
        self._n_frames += len(raw.q)
        if self._moments:
            self._moments.add(raw.sums)

    @property
    def is_empty(self) -> bool:
        """Whether there are no frames."""
        return not self._n_frames

    def affine(self) -> tuple[_Array, _Array]:
        """Factor [n_voices, 1] and offset [n_voices, n_controls or 1] that make logits of the controls."""
        if self._moments:
            return self._moments.affine()
        return unscaled(self._n_voices)

    def read(self, n_frames: int) -> Iterator[RawControls]:
        """All frames from the first on, `n_frames` at a time; nothing can be appended any more."""
        self._store.rewind()
        self._steps.rewind()
        for _ in range(0, self._n_frames, n_frames):
            step = self._steps.read(n_frames).astype(np.float32, copy=False)
            yield RawControls(self._store.read(n_frames), step, np.zeros((*step.shape, 2), np.float32))


def unscaled(n_voices: int) -> tuple[_Array, _Array]:
    """Factor and offset of a model that normalises nothing."""
    return np.ones((n_voices, 1), np.float32), np.zeros((n_voices, 1), np.float32)
