"""BlobStore: what every store of objects can do. No store here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """A flat space of objects. Every method raises ServiceUnavailable where another try may help and Permanent where not."""

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Store an object, all of it or nothing; replaces one of the same key."""

    def get(self, key: str) -> bytes:
        """The bytes of an object.

        Raises:
            NotFound: no such object.
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

    def presign(self, key: str, ttl_s: int) -> str:
        """A URL that lets anybody read the object for this long."""
