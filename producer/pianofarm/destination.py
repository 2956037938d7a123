"""Files that appear whole or not at all: written under a temporary name beside their place, then renamed. Knows no formats."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pianofarm_common.errors import FULL_DISK, BadOption, DiskFull


@contextmanager
def arriving(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` when the block ends well and disappears when it does not.

    Raises:
        BadOption: the place cannot be written to.
        DiskFull: there is no room.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _translated(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out before the work whether a file can be written there, and make its folder.

    Raises:
        BadOption: it cannot.
    """
    if path.is_dir():
        raise BadOption(f"cannot write {path}: it is a folder; give a file name")
    if path.exists() and not path.is_file():
        # A rename would put a file in the place of the device.
        raise BadOption(f"cannot write {path}: it is a device or a pipe; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(
            f"cannot make the folder {path.parent}: {error.strerror}: choose another place for the output"
        ) from None
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _translated(path, error) from None


def _translated(path: Path, error: OSError) -> BadOption | DiskFull:
    if error.errno in FULL_DISK:
        return DiskFull(f"no room to write {path} ({error.strerror}): free some space; nothing was left behind")
    return BadOption(f"cannot write {path}: {error.strerror or error}: choose another place for the output")
