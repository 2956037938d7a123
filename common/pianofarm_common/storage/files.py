"""Writing a file so that there is never half of it: a temporary name, then a rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from pianofarm_common.errors import FULL_DISK, DiskFull, Permanent

#: Bytes moved at a time when an object is copied to a file.
CHUNK_BYTES = 1 << 20

#: Ends the name of a file that is not complete yet.
PART_SUFFIX = ".part"


def write_then_rename(path: Path, write: Callable[[IO[bytes]], object]) -> int:
    """Write a file under a temporary name in the same folder, flush it to the device, rename it; returns its size in bytes.

    Raises:
        DiskFull: no room or quota; nothing is left behind.
        Permanent: the folder cannot be written to.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
            n_bytes = file.tell()
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, (ConnectionError, TimeoutError)):
            raise
        if error.errno in FULL_DISK:
            raise DiskFull(f"no room for {path}: free some space on its device and try again") from None
        raise Permanent(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return n_bytes
