"""Notes heard against notes played: F1 of onsets, of onsets with offsets, correlation of velocities. Transcribes nothing.

As the MIREX note tracking task counts: an onset within 50 ms, an offset within 50 ms or a fifth of the note's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance

TOLERANCE_S = 0.05
OFFSET_PART = 0.2


@dataclass(frozen=True)
class Heard:
    """How well notes were found."""

    onset_f1: float
    offset_f1: float  #: onset and offset both right
    velocity_correlation: float  #: over the notes found
    n_played: int


def played_notes(performance: Performance) -> NDArray[np.float64]:
    """Notes as long as they sound: until the pedal comes up, or the key is struck again. [n, 4]: onset, offset, pitch, velocity"""
    sustain = performance.control_number == 64
    up_s = performance.control_s[sustain & (performance.control_value < 64)]
    down_s = performance.control_s[sustain & (performance.control_value >= 64)]
    offsets_s = []
    for onset_s, offset_s, pitch in zip(performance.onset_s, performance.offset_s, performance.pitch, strict=True):
        last_down = down_s[down_s <= offset_s].max(initial=-1.0)
        last_up = up_s[up_s <= offset_s].max(initial=-0.5)
        end_s = float(offset_s)
        if last_down > last_up:
            end_s = float(up_s[up_s > offset_s].min(initial=performance.duration_s))
        again = performance.onset_s[(performance.pitch == pitch) & (performance.onset_s > onset_s)]
        offsets_s.append(max(min(end_s, float(again.min(initial=np.inf))), float(onset_s) + 0.01))
    columns = (performance.onset_s, np.array(offsets_s), performance.pitch, performance.velocity)
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def score(heard: NDArray[np.float64], played: NDArray[np.float64]) -> Heard:
    """Match and count.

    Args:
        heard: [n, 4]: onset and offset in seconds, pitch, velocity.
        played: the same.
    """
    pairs = _matches(heard, played, with_offsets=False)
    velocities = np.array([(heard[i, 3], played[j, 3]) for i, j in pairs])
    spread = len(pairs) > 1 and (velocities.std(axis=0) > 0).all()
    return Heard(
        onset_f1=_f1(len(pairs), len(heard), len(played)),
        offset_f1=_f1(len(_matches(heard, played, with_offsets=True)), len(heard), len(played)),
        velocity_correlation=float(np.corrcoef(velocities.T)[0, 1]) if spread else float("nan"),
        n_played=len(played),
    )


def _f1(n_right: int, n_heard: int, n_played: int) -> float:
    return 2 * n_right / (n_heard + n_played) if n_heard + n_played else 1.0


def _matches(heard: NDArray[np.float64], played: NDArray[np.float64], *, with_offsets: bool) -> list[tuple[int, int]]:
    """As many pairs as possible, key by key (Kuhn's augmenting paths)."""
    tolerance_s = np.maximum(TOLERANCE_S, OFFSET_PART * (played[:, 1] - played[:, 0]))
    taken: dict[int, int] = {}

    def candidates(j: int) -> NDArray[np.intp]:
        near = (heard[:, 2] == played[j, 2]) & (np.abs(heard[:, 0] - played[j, 0]) <= TOLERANCE_S)
        if with_offsets:
            near &= np.abs(heard[:, 1] - played[j, 1]) <= tolerance_s[j]
        return np.flatnonzero(near)

    def place(j: int, seen: set[int]) -> bool:
        for i in map(int, candidates(j)):
            if i not in seen:
                seen.add(i)
                if i not in taken or place(taken[i], seen):
                    taken[i] = j
                    return True
        return False

    for j in range(len(played)):
        place(j, set())
    return sorted(taken.items())
