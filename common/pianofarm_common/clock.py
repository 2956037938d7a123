"""When a MIDI tick happens, in seconds: tempo changes, or the constant rate of a SMPTE division. Knows no file format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEFAULT_TEMPO_PER_MIN = 120.0  # quarter notes, where a file says nothing

#: Frames a second by the upper byte of a SMPTE division; 29 means 30 drop-frame, which runs at 30000/1001.
SMPTE_FRAMES_PER_S = {24: 24.0, 25: 25.0, 29: 30_000 / 1001, 30: 30.0}


@dataclass(frozen=True)
class Clock:
    """When a tick happens: spans of constant speed."""

    start_tick: NDArray[np.int64]  #: [n_tempi], the first is 0
    start_s: NDArray[np.float64]  #: [n_tempi], seconds at `start_tick`
    tick_s: NDArray[np.float64]  #: [n_tempi], length of a tick from there on, seconds

    def seconds(self, tick: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds from the start of the file at which these ticks happen; any shape."""
        span = np.searchsorted(self.start_tick, tick, side="right") - 1
        return self.start_s[span] + self.tick_s[span] * (tick - self.start_tick[span])


def quarter_clock(ticks_per_quarter: int, tick: NDArray[np.int64], tempo_us: NDArray[np.int64]) -> Clock:
    """The clock of tempo changes [n_changes]: when (ascending) and how many microseconds a quarter note then takes (> 0).

    Bit for bit pretty_midi's seconds: the same operations in the same order, a tempo that repeats the last one left out.
    """
    tick_s = np.concatenate(
        ([60.0 / (_DEFAULT_TEMPO_PER_MIN * ticks_per_quarter)], 60.0 / (6e7 / tempo_us * ticks_per_quarter))
    )
    start_tick = np.concatenate(([0], tick))
    # Of several tempi at the very beginning the last holds; later ones count where they change the speed.
    first = int(np.count_nonzero(start_tick == 0)) - 1
    start_tick, tick_s = start_tick[first:], tick_s[first:]
    changes = np.concatenate(([True], tick_s[1:] != tick_s[:-1]))
    start_tick, tick_s = start_tick[changes], tick_s[changes]
    start_s = np.concatenate(([0.0], np.cumsum(tick_s[:-1] * np.diff(start_tick))))
    return Clock(start_tick, start_s, tick_s)


def smpte_clock(frames_per_s: int, ticks_per_frame: int) -> Clock:
    """The clock of a SMPTE division, one of `SMPTE_FRAMES_PER_S`; tempo events do not change it."""
    rate_hz = SMPTE_FRAMES_PER_S[frames_per_s] * ticks_per_frame
    return Clock(np.zeros(1, np.int64), np.zeros(1), np.array([1.0 / rate_hz]))
