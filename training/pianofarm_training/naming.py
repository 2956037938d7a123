"""What a user says about the model he trains, and the fingerprint of the data it is made from. No audio is decoded here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pianofarm_common.models import ModelInfo


@dataclass(frozen=True)
class Naming:
    """What a new model is called and who must be named for it."""

    name: str
    licence: str
    credit: str


@dataclass(frozen=True)
class Recipe:
    """What a user says about a run on recordings with MIDI."""

    n_steps: int
    batch_size: int
    excerpt_s: float
    checkpoint_every: int
    seed: int
    start: ModelInfo | None = None  #: a model to go on from; None: from nothing, or from the default

    def as_json(self) -> dict[str, Any]:
        """What decides the result, the start apart."""
        return {
            "steps": self.n_steps,
            "batch_size": self.batch_size,
            "excerpt_s": self.excerpt_s,
            "checkpoint_every": self.checkpoint_every,
            "seed": self.seed,
        }


def fingerprint(files: Sequence[Path]) -> str:
    """Sha256 over the contents of files, in the order given."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
