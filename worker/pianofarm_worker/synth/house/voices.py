"""A note that sounds, and what pedals and keys do to it frame by frame. Values only: who plays them is the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.bundles import Weight
from pianofarm_worker.synth.house.key_table import KeyTable

Float32Array = NDArray[np.float32]


@dataclass(slots=True)
class Voice:
    """A note that sounds."""

    note: int
    table: KeyTable
    gain: Float32Array  #: [n_partials]
    knock_gain: Float32Array  #: [N_GROUPS]
    silence_db: Float32Array  #: [n_partials], levels at velocity 127 that are just not heard
    clock: int  #: frame of the common clock that comes with or after its own first one
    first: int  #: frame of the common clock at which it goes over to it
    until: int  #: frame at which its partials are silent
    #: [2, n_partials], what frames of the common clock take of its own one before and of the one after; its gains are in it
    turn: NDArray[np.complex64]
    noise_gain: Float32Array  #: [n_bands], power
    noise_first: int  #: frame of noise
    slow_from: int  #: frame of noise, a slow one, from which on it goes over to slow frames
    noise_until: int  #: frame of noise
    wash: float  #: power of the wash
    wash_until: int  #: frame of noise

    def is_over(self, frame: int, noise_frame: int) -> bool:
        """Nothing of it is left to play from a frame on."""
        return self.until <= frame and max(self.noise_until, self.wash_until) <= noise_frame


class Laws(NamedTuple):
    """What pedals and keys do to notes, frame by frame."""

    kept: Float32Array  #: [n_notes, n_frames], what damping leaves
    openness: Float32Array  #: [n_notes, n_frames], how far the other strings answer

    def weight(self, row: int, answer: Float32Array) -> Weight:
        """Of a note's partials, with what the other strings add to them; `answer` is [n_partials, n_own_frames]."""
        return Weight(self.kept[row], self.openness[row], answer)
