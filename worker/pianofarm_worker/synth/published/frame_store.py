"""Frames written once in order and read once in order, in a temporary file when they are many. Bytes only; no audio."""

from __future__ import annotations

import errno
import tempfile
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pianofarm_common.errors import DiskFull

#: Held in memory up to this size: 50 s of the raw controls of dafx22. A file costs nothing you could measure, but needs a disk.
_MEMORY_BYTES = 64_000_000


class FrameStore:
    """A long array [n_frames, ...] that need not fit in memory. Use it as a context manager: that removes the file."""

    def __init__(self, frame_shape: tuple[int, ...], dtype: DTypeLike, *, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._frame_shape, self._dtype = frame_shape, np.dtype(dtype)
        self._frame_bytes = int(np.prod(frame_shape)) * self._dtype.itemsize
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115 closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, frames: NDArray[np.generic]) -> None:
        """Write the next frames [n, ...].

        Raises:
            DiskFull: the folder for temporary files is full.
        """
        try:
            self._file.write(np.ascontiguousarray(frames, self._dtype).data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"{tempfile.gettempdir()} is full ({error.strerror}): make room or set TMPDIR elsewhere"
            ) from None

    def rewind(self) -> None:
        """Go back to the first frame, to read."""
        self._file.seek(0)

    def read(self, n_frames: int) -> NDArray[np.generic]:
        """The next frames [n, ...], fewer at the end."""
        data = self._file.read(n_frames * self._frame_bytes)
        return np.frombuffer(data, self._dtype).reshape(-1, *self._frame_shape)
