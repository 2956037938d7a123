"""Frames written once in order and read once in order, in a temporary file when they are many. Bytes only; no audio."""

from __future__ import annotations

import contextlib
import tempfile
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pianofarm_worker.synth.long_arrays import full_disk_said

#: Held in memory up to this size: a quarter of a minute of the raw controls of dafx22. What comes after goes to a file.
MEMORY_BYTES = 20_000_000


class FrameStore:
    """A long array [n_frames, ...] that need not fit in memory. Use it as a context manager: that removes the file."""

    def __init__(self, frame_shape: tuple[int, ...], dtype: DTypeLike, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._frame_shape, self._dtype = frame_shape, np.dtype(dtype)
        self._frame_bytes = int(np.prod(frame_shape)) * self._dtype.itemsize
        self._room_bytes = memory_bytes
        self._in_memory: list[NDArray[np.generic]] = []  # the first frames
        self._file: IO[bytes] | None = None  # the others

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_memory = []
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written is not wanted any more
                self._file.close()

    def append(self, frames: NDArray[np.generic]) -> None:
        """Write the next frames [n, ...]; they must not change afterwards.

        Raises:
            DiskFull: the folder for temporary files is full.
        """
        frames = np.ascontiguousarray(frames, self._dtype)
        if self._file is None and frames.nbytes <= self._room_bytes:
            self._room_bytes -= frames.nbytes
            self._in_memory.append(frames)
            return
        with full_disk_said():
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 closed by __exit__
            self._file.write(frames.data)

    def rewind(self) -> None:
        """Go to the first frame, to read; nothing may be written any more.

        Raises:
            DiskFull: the folder for temporary files is full.
        """
        self._in_memory.reverse()
        if self._file is not None:
            with full_disk_said():
                self._file.seek(0)

    def read(self, n_frames: int) -> NDArray[np.generic]:
        """The next frames [n, ...], fewer at the end; each can be read once."""
        parts: list[NDArray[np.generic]] = []
        while n_frames and self._in_memory:
            chunk = self._in_memory.pop()
            if len(chunk) > n_frames:
                self._in_memory.append(chunk[n_frames:])
                chunk = chunk[:n_frames]
            parts.append(chunk)
            n_frames -= len(chunk)
        if n_frames and self._file is not None:
            data = self._file.read(n_frames * self._frame_bytes)
            parts.append(np.frombuffer(data, self._dtype).reshape(-1, *self._frame_shape))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.zeros((0, *self._frame_shape), self._dtype), *parts])
