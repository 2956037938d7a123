"""MIDI in: bytes -> validated performance (notes, pedals), within limits, with a canonical form to hash.

symusic parses; pretty_midi is the interchange type. No synthesis here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MidiLimits:
    """What is refused before anything is allocated."""

    max_bytes: int
    max_duration_s: float
    max_notes: int
    max_tracks: int


@dataclass(frozen=True)
class Performance:
    """What a pianist did: notes and pedals, times in seconds from the start of the file.

    Notes are sorted by onset, then pitch; controls by time. Percussion is left out and counted.
    """

    onset_s: NDArray[np.float64]  #: [n_notes]
    offset_s: NDArray[np.float64]  #: [n_notes], key up (not damper down), > onset
    pitch: NDArray[np.uint8]  #: [n_notes], 0..127
    velocity: NDArray[np.uint8]  #: [n_notes], 1..127
    control_s: NDArray[np.float64]  #: [n_controls]
    control_number: NDArray[np.uint8]  #: [n_controls], 64 sustain, 65 portamento, 66 sostenuto, 67 soft
    control_value: NDArray[np.uint8]  #: [n_controls], 0..127
    percussion_notes: int = 0  #: notes on MIDI channel 10, dropped

    @property
    def duration_s(self) -> float:
        """End of the last note, in seconds; 0 without notes."""
        return float(self.offset_s.max()) if len(self.offset_s) else 0.0
