"""What a player does, live: keys, pedals, and the queue in which it waits for its time. No sound here."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from pianofarm_common.errors import BadOption
from pianofarm_common.midi import Performance

#: Controllers that every model knows (MIDI 1.0, table of control changes).
SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123


@dataclass(frozen=True)
class NoteOn:
    """A key goes down. Velocity 0 means that it goes up, as in MIDI."""

    pitch: int  #: 0..127
    velocity: int  #: 0..127
    time_s: float | None = None  #: of the stream; None: now, which is where the next block begins


@dataclass(frozen=True)
class NoteOff:
    """A key goes up; nothing happens where it was not down."""

    pitch: int  #: 0..127
    time_s: float | None = None


@dataclass(frozen=True)
class Control:
    """A pedal moves, or all notes end; controllers that no piano has are ignored."""

    number: int  #: 0..127; 64 sustain, 65 portamento, 66 sostenuto, 67 soft, 120 all sound off, 121 reset, 123 all notes off
    value: int  #: 0..127
    time_s: float | None = None


Event = NoteOn | NoteOff | Control


class EventQueue:
    """Events that wait for their time: the earliest first, those of one time as they came."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Event]] = []
        self._n_pushed = 0

    def push(self, event: Event, now_s: float) -> None:
        """Take an event; one without a time, or whose time has passed, is for now.

        Raises:
            BadOption: it is no event, or a value is out of range.
        """
        _check(event)
        time_s = now_s if event.time_s is None else max(event.time_s, now_s)
        heapq.heappush(self._waiting, (time_s, self._n_pushed, event))
        self._n_pushed += 1

    def next_s(self) -> float:
        """When the earliest is due; infinity: none waits."""
        return self._waiting[0][0] if self._waiting else math.inf

    def pop(self) -> tuple[float, Event]:
        """The earliest, with its time."""
        time_s, _, event = heapq.heappop(self._waiting)
        return time_s, event


def _check(event: object) -> None:
    """Refuse what MIDI has no room for.

    Raises:
        BadOption: says what was received.
    """
    if not isinstance(event, NoteOn | NoteOff | Control):
        raise BadOption(f"{event!r} is no event: push NoteOn, NoteOff or Control")
    values = vars(event)
    for name in values.keys() - {"time_s"}:
        if not isinstance(values[name], int) or not 0 <= values[name] <= 127:
            raise BadOption(f"{event}: {name} must be a whole number from 0 to 127")
    if event.time_s is not None and not 0 <= event.time_s < math.inf:
        raise BadOption(f"{event}: times begin at 0 and are finite; None is now")


def events_of(performance: Performance) -> list[Event]:
    """A performance as one pianist plays it, in order; at one time pedals move first, then keys go up, then down.

    There is one keyboard and one set of pedals: parts are put together. Where a key is struck again before it went up, it goes up
    once, after the longest of those notes.
    """
    moves: list[tuple[float, int, Event]] = [
        (time_s, 0, Control(number, value, time_s))
        for time_s, number, value in zip(
            performance.control_s.tolist(),
            performance.control_number.tolist(),
            performance.control_value.tolist(),
            strict=True,
        )
    ]
    up_s: dict[int, float] = {}
    for onset_s, offset_s, pitch, velocity in zip(
        performance.onset_s.tolist(),
        performance.offset_s.tolist(),
        performance.pitch.tolist(),
        performance.velocity.tolist(),
        strict=True,
    ):
        moves.append((onset_s, 2, NoteOn(pitch, velocity, onset_s)))
        if pitch in up_s and up_s[pitch] <= onset_s:
            moves.append((up_s[pitch], 1, NoteOff(pitch, up_s[pitch])))
            up_s[pitch] = offset_s
        else:
            up_s[pitch] = max(offset_s, up_s.get(pitch, 0.0))
    moves += [(time_s, 1, NoteOff(pitch, time_s)) for pitch, time_s in up_s.items()]
    moves.sort(key=lambda move: move[:2])
    return [event for *_, event in moves]
