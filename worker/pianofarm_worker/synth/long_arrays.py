"""Arrays as long as a piece: beyond some megabytes they lie in a temporary file, mapped into memory. No audio.

What was read or written of such an array stays in memory until it is let go, and comes back from the file when it is asked for
again. So a piece of any length is held in the memory of the part that is worked on. Shorter arrays are plain ones.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pianofarm_common.errors import FULL_DISK, DiskFull

#: Held in memory up to this size: four minutes of sound of the published models.
MEMORY_BYTES = 16_000_000

#: Looked at between one letting go and the next, in `parts`.
_PART_BYTES = 4_000_000

_T = TypeVar("_T", bound=np.generic)


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike, *, memory_bytes: int | None = None) -> NDArray[Any]:
    """An array of zeros; its file goes with the last view of it.

    Args:
        shape: of the array.
        dtype: of the array.
        memory_bytes: up to which it has no file; None: MEMORY_BYTES.

    Raises:
        DiskFull: the folder for temporary files is full.
    """
    shape = shape if isinstance(shape, tuple) else (shape,)
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes <= (MEMORY_BYTES if memory_bytes is None else memory_bytes):
        return np.zeros(shape, dtype)
    with full_disk_said(), tempfile.TemporaryFile() as file:
        _reserve(file.fileno(), n_bytes)
        mapped = _Mapping(file.fileno(), n_bytes)
    return np.frombuffer(mapped, dtype).reshape(shape)


def let_go(*arrays: NDArray[Any]) -> None:
    """Keep in memory no more of the whole arrays that these are parts of; does nothing to one that has no file."""
    for array in arrays:
        mapped = _file_of(array)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def is_in_file(array: NDArray[Any]) -> bool:
    """Whether the array, or what it is a part of, has a file."""
    return _file_of(array) is not None


def parts(array: NDArray[_T]) -> Iterator[NDArray[_T]]:
    """Parts of it along the first axis, one after the other; each is let go when the next is asked for."""
    row_bytes = max(array[:1].nbytes, 1)
    n_rows = max(_PART_BYTES // row_bytes, 1)
    for start in range(0, len(array), n_rows):
        yield array[start : start + n_rows]
        let_go(array)


def of_parts(function: Callable[..., NDArray[np.float32]], *arrays: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a function that looks at each element alone makes of arrays of one shape, part by part where they have a file.

    Raises:
        DiskFull: the folder for temporary files is full.
    """
    if not is_in_file(arrays[0]):
        return function(*arrays)
    result = zeros(arrays[0].shape, np.float32, memory_bytes=0)
    for made, *given in zip(parts(result), *(parts(array) for array in arrays), strict=True):
        made[...] = function(*given)
    return result


@contextlib.contextmanager
def full_disk_said() -> Iterator[None]:
    """Around what writes temporary files.

    Raises:
        DiskFull: for the error that a full disk gives.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise DiskFull(
            f"{tempfile.gettempdir()} is full ({error.strerror}): make room or set TMPDIR elsewhere"
        ) from None


class _Mapping(mmap.mmap):
    """Shared with its file, as all of these are: of a private mapping, letting go would lose what was written."""


def _reserve(file: int, n_bytes: int) -> None:
    """Make the file so long, and see to it that there is room: who writes to a mapped page that has none is killed."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, n_bytes)
    else:
        os.ftruncate(file, n_bytes)


def _file_of(array: NDArray[Any]) -> _Mapping | None:
    base: object = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, _Mapping) else None
