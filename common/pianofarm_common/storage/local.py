"""LocalBlobStore: objects as files below a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from pianofarm_common.errors import BadOption, NotFound
from pianofarm_common.storage.files import CHUNK_BYTES, PART_SUFFIX, write_then_rename
from pianofarm_common.storage.store import check_size


class LocalBlobStore:
    """Objects as files below a folder; for one machine and for renders without services."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.folder / key))
        if not key or not path.is_relative_to(Path(os.path.normpath(self.folder))) or path == self.folder:
            raise BadOption(f"object key {key!r} leads out of the store's folder")
        return path

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:  # noqa: ARG002
        """As `BlobStore.put`; the content type is not kept."""
        write_then_rename(self._path(key), lambda file: file.write(data))

    def get(self, key: str, max_bytes: int | None = None) -> bytes:
        """As `BlobStore.get`."""
        try:
            path = self._path(key)
            check_size(key, path.stat().st_size, max_bytes)
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"no object {key!r} in {self.folder}") from None

    def download(self, key: str, path: Path) -> int:
        """As `BlobStore.download`."""
        source = self._path(key)
        if not source.is_file():
            raise NotFound(f"no object {key!r} in {self.folder}")

        def copy(file: IO[bytes]) -> None:
            with source.open("rb") as original:
                shutil.copyfileobj(original, file, CHUNK_BYTES)

        return write_then_rename(path, copy)

    def exists(self, key: str) -> bool:
        """As `BlobStore.exists`."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """As `BlobStore.delete`."""
        self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[str]:
        """As `BlobStore.list`."""
        return (key for key, _ in self.dated(prefix))

    def dated(self, prefix: str) -> Iterator[tuple[str, float]]:
        """As `BlobStore.dated`."""
        keys = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        for key in sorted(key for key in keys if key.startswith(prefix) and not key.endswith(PART_SUFFIX)):
            with suppress(FileNotFoundError):
                yield key, self._path(key).stat().st_mtime

    def presign(self, key: str, ttl_s: int) -> str:  # noqa: ARG002
        """A `file://` URL; it does not lapse."""
        return self._path(key).absolute().as_uri()
