"""When a MIDI tick happens, in seconds: tempo changes, or the constant rate of a SMPTE division. Knows no file format."""

from __future__ import annotations

from collections.abc import Iterable
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


def quarter_clock(ticks_per_quarter: int, tempi: Iterable[tuple[int, int]]) -> Clock:
    """The clock of tempo changes (tick, microseconds a quarter note), ticks ascending, no tempo 0.

    Bit for bit pretty_midi's seconds: the same operations in the same order, a tempo that repeats the last one left out.
    """
    start_tick, tick_s = [0], [60.0 / (_DEFAULT_TEMPO_PER_MIN * ticks_per_quarter)]
    for tick, tempo_us in tempi:
        length_s = 60.0 / (6e7 / tempo_us * ticks_per_quarter)
        if tick == 0:
            start_tick, tick_s = [0], [length_s]
        elif length_s != tick_s[-1]:
            start_tick.append(tick)
            tick_s.append(length_s)
    start_s = [0.0]
    for k in range(1, len(start_tick)):
        start_s.append(start_s[-1] + tick_s[k - 1] * (start_tick[k] - start_tick[k - 1]))
    return Clock(np.array(start_tick, np.int64), np.array(start_s), np.array(tick_s))


def smpte_clock(frames_per_s: int, ticks_per_frame: int) -> Clock:
    """The clock of a SMPTE division, one of `SMPTE_FRAMES_PER_S`; tempo events do not change it."""
    rate_hz = SMPTE_FRAMES_PER_S[frames_per_s] * ticks_per_frame
    return Clock(np.zeros(1, np.int64), np.zeros(1), np.array([1.0 / rate_hz]))
