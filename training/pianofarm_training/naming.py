"""What a user says about the model he trains, and the fingerprint of the data it is made from. No audio is decoded here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Naming:
    """What a new model is called and who must be named for it."""

    name: str
    licence: str
    credit: str


def fingerprint(files: Sequence[Path]) -> str:
    """Sha256 over the contents of files, in the order given."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
