"""What is wrong with somebody's data: one `Problem` a finding, gathered before training starts. Finds nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pianofarm_common.errors import Permanent


@dataclass(frozen=True)
class Problem:
    """One thing that must be put right before training can start."""

    path: Path  #: the file, or the folder where a file is missing
    kind: str  #: one word: "clipped", "silent", "missing", ...
    found: str  #: what was seen, with its figure
    cure: str  #: what would do


class BadData(Permanent):
    """Data that must not be trained on; carries every problem, not the first one only."""

    def __init__(self, source: Path, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source}: {many}, nothing was trained: put right what the table lists and run again")


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By file, then by kind."""
    return sorted(problems, key=lambda p: (str(p.path), p.kind, p.found))
