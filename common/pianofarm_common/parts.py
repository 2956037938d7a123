"""Channel events -> notes and pedal movements, each with the part that plays it; pretty_midi's rules, without its loops.

A part is a (track, channel, program) that plays notes, numbered in the order in which `pretty_midi` lists its instruments.
Percussion (channel 10) is counted and left out. Ticks only; seconds are the business of `pianofarm_common.midi`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.smf import ChannelEvents

#: Sustain, portamento, sostenuto, soft: what a piano model listens to.
PEDAL_CONTROLS = (64, 65, 66, 67)

_PERCUSSION_CHANNEL = 9  # counted from 0
_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM, _BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0

#: Indices into the columns of `ChannelEvents`.
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """What the parts of a file do, as indices of its events; in pretty_midi's order within each part."""

    note_on: Indices  #: [n_notes], the event that begins the note
    note_off: Indices  #: [n_notes], the event that ends it, at a later tick
    note_part: NDArray[np.int64]  #: [n_notes], 0..n_parts - 1
    control: Indices  #: [n_controls], pedal movements
    control_part: NDArray[np.int64]  #: [n_controls]
    percussion_notes: int  #: notes of channel 10, not among the above


def count_note_ons(events: ChannelEvents) -> int:
    """Note-on events of any channel: an upper bound of the notes, cheap enough to be compared with a limit first."""
    return int(np.count_nonzero(_is_on(events)))


def read_parts(events: ChannelEvents) -> Parts:
    """Pair note-on with note-off and hand out the pedals.

    A note-off ends every sounding note of its key that began at an earlier tick; notes that never end are dropped, as are
    pedals of a (track, channel) that plays no note.
    """
    note_on, note_off = _pair(events)
    place = events.place
    is_percussion = place[note_on] % 16 == _PERCUSSION_CHANNEL
    percussion_notes = int(np.count_nonzero(is_percussion))
    note_on, note_off = note_on[~is_percussion], note_off[~is_percussion]

    part_key = place[note_off] * 128 + _programs(events, place, note_off)
    keys, first_note, dense = np.unique(part_key, return_index=True, return_inverse=True)
    number = np.empty(len(keys), np.int64)
    number[np.argsort(first_note)] = np.arange(len(keys))
    note_part = number[dense]
    control, control_part = _pedals(events, note_off, keys, first_note, number)
    return Parts(note_on, note_off, note_part, control, control_part, percussion_notes)


def _pedals(
    events: ChannelEvents, note_off: Indices, keys: Indices, first_note: Indices, number: NDArray[np.int64]
) -> tuple[Indices, NDArray[np.int64]]:
    """Pedal movements and the parts that make them, in any order of the parts.

    Args:
        events: all of them.
        note_off: the events that end a note.
        keys: 128 times place plus program of every part, ascending.
        first_note: for each of those its first note.
        number: for each of those the number of the part.
    """
    if len(keys) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place, kind = events.place, events.kind
    is_pedal = (kind == _CONTROL) & (events.data1 >= PEDAL_CONTROLS[0]) & (events.data1 <= PEDAL_CONTROLS[-1])
    places, first_key = np.unique(keys // 128, return_index=True)
    first_off = np.minimum.reduceat(note_off[first_note], first_key)
    known = places[np.minimum(np.searchsorted(places, place), len(places) - 1)] == place

    changes = np.flatnonzero((kind == _PROGRAM) & known)
    at = np.searchsorted(places, place[changes])
    is_shared = np.zeros(len(places), np.bool_)
    is_shared[at[changes > first_off[at]]] = True

    candidates = np.flatnonzero(is_pedal & known)
    at = np.searchsorted(places, place[candidates])
    at, candidates = at[~is_shared[at]], candidates[~is_shared[at]]
    control, control_part = candidates, number[first_key[at]]
    if np.any(is_shared):
        numbers = dict(zip(keys.tolist(), number.tolist(), strict=True))
        here = np.flatnonzero(np.isin(place, places[is_shared]))
        chosen, parts = _shared_pedals(events, here, note_off, is_pedal, numbers)
        control = np.concatenate((control, np.array(chosen, np.int64)))
        control_part = np.concatenate((control_part, np.array(parts, np.int64)))
    return control, control_part


def _is_on(events: ChannelEvents) -> NDArray[np.bool_]:
    is_on: NDArray[np.bool_] = (events.kind == _NOTE_ON) & (events.data2 > 0)
    return is_on


def _pair(events: ChannelEvents) -> tuple[Indices, Indices]:
    """Note-on and note-off of every note, ordered by note-off, then note-on."""
    is_on = _is_on(events)
    kind = events.kind
    chosen = np.flatnonzero((kind == _NOTE_OFF) | (kind == _NOTE_ON))
    key = events.place[chosen] * 128 + events.data1[chosen].astype(np.int64)
    by_key = np.argsort(key, kind="stable")
    chosen, key = chosen[by_key], key[by_key]
    on, tick = is_on[chosen], events.tick[chosen]

    same_key = key[1:] == key[:-1]
    follows_on = same_key & on[:-1]
    # A key is simple if it never sounds twice at once and no note of it ends at the tick it began.
    odd = np.flatnonzero(follows_on & (on[1:] | (tick[1:] == tick[:-1])))
    ends_note = np.flatnonzero(follows_on & ~on[1:]) + 1
    if len(odd) == 0:
        note_on, note_off = chosen[ends_note - 1], chosen[ends_note]
    else:
        odd_keys = np.unique(key[odd])
        is_simple = ~np.isin(key, odd_keys)
        ends_note = ends_note[is_simple[ends_note]]
        pairs = _pair_overlapping(key[~is_simple], chosen[~is_simple], on[~is_simple], tick[~is_simple])
        note_on = np.concatenate((chosen[ends_note - 1], pairs[:, 0]))
        note_off = np.concatenate((chosen[ends_note], pairs[:, 1]))
    order = np.lexsort((note_on, note_off))
    return note_on[order], note_off[order]


def _pair_overlapping(key: Indices, event: Indices, on: NDArray[np.bool_], tick: Indices) -> NDArray[np.int64]:
    """Pairs [n, 2] for keys that are struck while they sound; linear, as a note is closed or dropped at most once."""
    pairs: list[tuple[int, int]] = []
    sounding: list[tuple[int, int]] = []
    current = -1
    columns = (key.tolist(), event.tolist(), on.tolist(), tick.tolist())
    for this_key, this_event, is_on, now in zip(*columns, strict=True):
        if this_key != current:
            current, sounding = this_key, []
        if is_on:
            sounding.append((now, this_event))
            continue
        ended = [begun for when, begun in sounding if when != now]
        # A note struck at this very tick goes on if the note-off had an older one to end; otherwise it is no note at all.
        sounding = [entry for entry in sounding if entry[0] == now] if ended else []
        pairs.extend((begun, this_event) for begun in ended)
    return np.array(pairs, np.int64).reshape(-1, 2)


def _programs(events: ChannelEvents, place: Indices, at: Indices) -> NDArray[np.int64]:
    """The program that each of these events finds set on its track and channel; 0 where none was set."""
    changes = np.flatnonzero(events.kind == _PROGRAM)
    if len(changes) == 0:
        return np.zeros(len(at), np.int64)
    n_events = len(events.tick)
    when = place[changes] * n_events + changes
    order = np.argsort(when)
    changes, when = changes[order], when[order]
    latest = np.searchsorted(when, place[at] * n_events + at) - 1
    found = (latest >= 0) & (place[changes[latest]] == place[at])
    return np.where(found, events.data1[changes[latest]], 0).astype(np.int64)


def _shared_pedals(
    events: ChannelEvents, here: Indices, note_off: Indices, is_pedal: NDArray[np.bool_], numbers: dict[int, int]
) -> tuple[list[int], list[int]]:
    """Pedals of the tracks and channels whose program changes after their first note, event by event.

    Events before the first note of a program go to every program that has no list of its own yet, and once shared a list
    stays shared; events between a program change and the first note of a program are lost where nothing came before the
    first part. All of it as pretty_midi has it, so a pedal may be returned for each of several parts, or for none.

    Args:
        events: all of them.
        here: those to look at.
        note_off: the events that end a note.
        is_pedal: [n_events], the pedal movements.
        numbers: part number by 128 times place plus program.
    """
    ends_note = np.zeros(len(events.tick), np.bool_)
    ends_note[note_off] = True
    lists: dict[int, list[int]] = {}  # by 128 * place + program
    early: dict[int, list[int]] = {}  # by place
    programs: dict[int, int] = {}  # by place
    columns = (here, events.place[here], events.kind[here], events.data1[here], ends_note[here], is_pedal[here])
    for event, place, kind, data1, ends, pedal in zip(*(column.tolist() for column in columns), strict=True):
        part = place * 128 + programs.get(place, 0)
        if kind == _PROGRAM:
            programs[place] = data1
        elif ends:
            if part not in lists:
                lists[part] = early.get(place, [])
        elif kind in (_CONTROL, _BEND):
            target = lists[part] if part in lists else early.setdefault(place, [])
            if pedal:
                target.append(event)
    chosen = [event for part in lists for event in lists[part]]
    return chosen, [numbers[part] for part in lists for _ in lists[part]]
