"""BlobStore: what every store of objects can do, and the check that they share. No store here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pianofarm_common.errors import LimitExceeded


class BlobStore(Protocol):
    """A flat space of objects. Every method raises ServiceUnavailable where another try may help and Permanent where not."""

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Store an object, all of it or nothing; replaces one of the same key."""

    def get(self, key: str, max_bytes: int | None = None) -> bytes:
        """The bytes of an object.

        Args:
            key: of the object.
            max_bytes: a larger object is refused before its bytes are read into memory.

        Raises:
            NotFound: no such object.
            LimitExceeded: it is larger than `max_bytes`.
        """

    def download(self, key: str, path: Path) -> int:
        """Write an object to a file under a temporary name, then rename; returns its size in bytes.

        Raises:
            NotFound: no such object.
            DiskFull: no room; nothing is left behind.
        """

    def exists(self, key: str) -> bool:
        """True if there is such an object."""

    def delete(self, key: str) -> None:
        """Remove an object; removing one that is not there is no error."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in order."""

    def dated(self, prefix: str) -> Iterator[tuple[str, float]]:
        """As `list`, each with the time it was stored last, in seconds since the epoch by the clock of the store."""

    def presign(self, key: str, ttl_s: int) -> str:
        """A URL that lets anybody read the object for this long."""


def check_size(key: str, n_bytes: int, max_bytes: int | None) -> None:
    """Raise LimitExceeded for an object that is larger than its reader takes."""
    if max_bytes is not None and n_bytes > max_bytes:
        raise LimitExceeded(f"object {key!r} has {n_bytes} bytes, more than the {max_bytes} that its reader takes")
