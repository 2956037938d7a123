"""A note that sounds, and what pedals and keys do to it frame by frame. Values only: who plays them is the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.house.bundles import Weight
from pianofarm_worker.synth.house.tables import STRIDE, KeyTable

Float32Array = NDArray[np.float32]


@dataclass(slots=True)
class Voice:
    """A note that sounds."""

    note: int
    table: KeyTable
    silence_db: Float32Array  #: [n_partials], levels at velocity 127 that are just not heard
    clock: int  #: frame of the common clock that comes with or after its own first one
    first: int  #: frame of the common clock at which it goes over to it
    until: int  #: frame at which its partials are silent
    turn: NDArray[
        np.complex64
    ]  #: [2, n_partials], what frames of the common clock take of its one before and of the one after
    noise_gain: Float32Array  #: [n_bands], power
    noise_first: int  #: frame of noise
    noise_until: int  #: frame of noise
    wash: float  #: power of the wash
    wash_until: int  #: frame of noise

    def is_over(self, frame: int, noise_frame: int) -> bool:
        """Nothing of it is left to play from a frame on."""
        return self.until <= frame and max(self.noise_until, self.wash_until) <= noise_frame

    def n_audible(self, frame: int, kept: float) -> int:
        """How many partials, from the lowest, are heard from its own frame on, where damping has left a part of them."""
        lost_db = np.float32(-20 * math.log10(kept + 1e-9)) if kept < 1.0 else np.float32(0)
        return _n_audible(self.table.later_db, frame // STRIDE, self.silence_db, lost_db)


class Laws(NamedTuple):
    """What pedals and keys do to notes, frame by frame."""

    kept: Float32Array  #: [n_notes, n_frames], what damping leaves
    openness: Float32Array  #: [n_notes, n_frames], how far the other strings answer

    def weight(self, row: int, answer: Float32Array) -> Weight:
        """Of a note's partials, with what the other strings add to them; `answer` is [n_partials, n_own_frames]."""
        return Weight(self.kept[row], self.openness[row], answer)


@compiled
def _n_audible(later_db: Float32Array, stride: int, silence_db: Float32Array, lost_db: np.float32) -> int:
    """How many of [n_partials] levels are to be kept, so that none above silence and what was lost is left out."""
    n = len(silence_db)
    while n > 0 and later_db[stride, n - 1] <= silence_db[n - 1] + lost_db:
        n -= 1
    return n
