"""A note that sounds, and what pedals and keys do to it frame by frame. Values only: who plays them is the engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    before: NDArray[np.complex64]  #: [n_partials, 1], what frames of the common clock take of the note's one before
    after: NDArray[np.complex64]  #: [n_partials, 1], and of the one after
    noise_gain: Float32Array  #: [n_bands], power
    noise_first: int  #: frame of noise
    noise_until: int  #: frame of noise
    wash: float  #: power of the wash
    wash_until: int  #: frame of noise

    def is_over(self, frame: int, noise_frame: int) -> bool:
        """Nothing of it is left to play from a frame on."""
        return self.until <= frame and max(self.noise_until, self.wash_until) <= noise_frame

    def amplitude(self, n_channels: int, n: int, low: int, high: int) -> NDArray[np.complex64]:
        """Its first n partials at the clock's frames low..high - 1, counted from `clock`. [n_channels, n, n_frames]"""
        own = self.table.amplitude[:n_channels, :n]
        found: NDArray[np.complex64] = own[:, :, low:high] * self.before[:n]
        found += own[:, :, low + 1 : high + 1] * self.after[:n]
        return found

    def n_audible(self, frame: int, kept: float) -> int:
        """How many partials, from the lowest, are heard from its own frame on, where damping has left a part of them."""
        silence_db = self.silence_db
        if kept < 1.0:
            silence_db = silence_db - np.float32(20 * np.log10(kept + 1e-9))
        audible = (self.table.later_db[frame // STRIDE] > silence_db).nonzero()[0]
        return int(audible[-1]) + 1 if len(audible) else 0


@dataclass
class Laws:
    """What pedals and keys do to notes, frame by frame."""

    kept: Float32Array  #: [n_notes, n_frames], what damping leaves
    is_damped: list[bool]  #: where that is not all
    openness: Float32Array | None  #: [n_notes, n_frames], how far the other strings answer
    is_answered: list[bool]  #: where they do

    @classmethod
    def of(cls, kept: Float32Array, openness: Float32Array | None) -> Laws:
        """Say of each note whether there is anything to do."""
        answered = np.zeros(len(kept)) if openness is None else openness.max(axis=1)
        return cls(
            kept, [part < 1 for part in kept[:, -1].tolist()], openness, [part > 0 for part in answered.tolist()]
        )

    def factor(self, note: int, frames: slice, answer: Float32Array) -> Float32Array | None:
        """Of a note's partials, with what the other strings add to them; None for one.

        [n_frames] or [n_partials, n_frames]; `answer` is [n_partials, n_frames].
        """
        kept = self.kept[note, frames] if self.is_damped[note] else None
        if self.openness is None or not self.is_answered[note]:
            return kept
        factor: Float32Array = answer * self.openness[note, frames]
        factor += np.float32(1)
        if kept is not None:
            factor *= kept
        return factor
