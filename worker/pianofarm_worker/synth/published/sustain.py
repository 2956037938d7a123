"""When notes really end: the sustain pedal prolongs them, as note_seq's `apply_sustain_control_changes` does. Seconds only.

A pedal holds the notes of its own part. Pressed half way (value 64) or more it is down. A note whose key went up while it is
down sounds until the pedal goes up or its pitch is struck again; a key that is still down when its pitch is struck again under
the pedal is cut there too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance

_SUSTAIN, _DOWN = 64, 64


@dataclass(frozen=True)
class Sounding:
    """How long every note of a performance sounds, in the performance's order."""

    end_s: NDArray[np.float64]  #: [n_notes]
    is_note: NDArray[np.bool_]  #: [n_notes], False: struck again at the very time it began, so never heard
    total_s: float  #: end of the last note, key or sound, whichever is later


def sustain(performance: Performance) -> Sounding:
    """Prolong the notes of a performance by its sustain pedals."""
    onset_s, offset_s = performance.onset_s, performance.offset_s
    is_sustain = performance.control_number == _SUSTAIN
    pedal_s, is_down = performance.control_s[is_sustain], performance.control_value[is_sustain] >= _DOWN
    last_s = max(float(offset_s.max(initial=0.0)), float(pedal_s.max(initial=0.0)))

    # Part and time as one integer, so that every part is searched at once and a thousand parts cost no more than one.
    times, rank = np.unique(np.concatenate((onset_s, offset_s, pedal_s)), return_inverse=True)
    onset, offset, moved = np.split(rank, (len(onset_s), len(onset_s) + len(offset_s)))
    lift = performance.note_part.astype(np.int64) * len(times)
    onset, offset = onset + lift, offset + lift
    moved = moved + performance.control_part[is_sustain].astype(np.int64) * len(times)

    # At one time: pedal down, pedal up, keys down, keys up. So "up" wins over "down", and a key finds the pedal already moved.
    order = np.lexsort((~is_down, moved))
    moved, is_down = moved[order], is_down[order]
    struck_under_pedal = _pedal_at(onset, moved, is_down, len(times))
    released_under_pedal = _pedal_at(offset, moved, is_down, len(times))
    goes_up = np.concatenate((moved[~is_down], [np.iinfo(np.int64).max]))
    next_up = goes_up[np.searchsorted(goes_up, offset, side="right")]
    is_own = next_up // len(times) == performance.note_part
    up_s = np.where(is_own, times[next_up % len(times)], last_s)
    end_s = np.where(released_under_pedal, up_s, offset_s)

    strike_s = _next_strike_s(performance, struck_under_pedal)
    is_note = strike_s > onset_s
    end_s = np.minimum(end_s, strike_s)
    total_s = max(float(offset_s.max(initial=0.0)), float(end_s[is_note].max(initial=0.0)))
    return Sounding(end_s, is_note, total_s)


def _pedal_at(
    when: NDArray[np.int64], moved: NDArray[np.int64], is_down: NDArray[np.bool_], n_times: int
) -> NDArray[np.bool_]:
    """Whether the pedal of its own part is down at each (part, time), after all movements of that time."""
    if len(moved) == 0:
        return np.zeros(len(when), np.bool_)
    latest = np.searchsorted(moved, when, side="right") - 1
    down: NDArray[np.bool_] = (latest >= 0) & (moved[latest] // n_times == when // n_times) & is_down[latest]
    return down


def _next_strike_s(performance: Performance, struck_under_pedal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """When the pitch of each note is next struck under the pedal by its own part; infinity: never."""
    n_notes = len(performance.pitch)
    strike_s = np.full(n_notes, np.inf)
    if n_notes == 0:
        return strike_s
    key = performance.note_part.astype(np.int64) * 128 + performance.pitch
    by_key = np.argsort(key, kind="stable")
    strikes = np.where(struck_under_pedal[by_key], np.arange(n_notes), n_notes)
    following = np.concatenate((np.minimum.accumulate(strikes[::-1])[::-1][1:], [n_notes]))
    same_key = (following < n_notes) & (key[by_key[np.minimum(following, n_notes - 1)]] == key[by_key])
    strike_s[by_key[same_key]] = performance.onset_s[by_key[following[same_key]]]
    return strike_s
