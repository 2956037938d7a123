"""Standard MIDI File bytes -> columns of channel events and a clock, or the byte at which the file is broken.

No notes and no pedals here: what the events mean is read in `pianofarm_common.parts`. Reading is bounded by the size of the
file: memory is a small multiple of it, time is linear, and no length field is believed before it was compared with the bytes.

How it is fast without a compiler: for every byte, as if an event began there, numpy computes where the next event would
begin (once for each length of a running-status message); walking the real chain of events is then one list lookup each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.clock import SMPTE_FRAMES_PER_S, Clock, quarter_clock, smpte_clock
from pianofarm_common.errors import BadMidi, LimitExceeded

_BLOCK_BYTES = 1 << 18  # positions looked at in one go: bounds the temporary arrays
_PADDING_BYTES = 16  # the longest fixed part of an event: four of delta time, status, type, four of length
_META, _SYSEX, _SYSEX_CONTINUED, _END_OF_TRACK, _SET_TEMPO = 0xFF, 0xF0, 0xF7, 0x2F, 0x51

#: Data bytes that follow a status byte: 2, 1, or -1 where the length is in the file or the byte is no status at all.
_DATA_BYTES = np.full(256, -1, np.int8)
_DATA_BYTES[0x80:0xC0] = 2
_DATA_BYTES[0xC0:0xE0] = 1
_DATA_BYTES[0xE0:0xF0] = 2


@dataclass(frozen=True)
class ChannelEvents:
    """Every channel message of a file, in the order of the file (track by track), as columns [n_events]."""

    track: NDArray[np.int64]
    tick: NDArray[np.int64]  #: since the start of the track
    status: NDArray[np.uint8]  #: 0x80..0xEF, running status filled in
    data1: NDArray[np.uint8]  #: 0..127
    data2: NDArray[np.uint8]  #: 0..127; 0 for messages of one data byte
    clock: Clock

    @property
    def place(self) -> NDArray[np.int64]:
        """[n_events], 16 times the track plus the channel (0..15): who is spoken to."""
        return self.track * 16 + np.bitwise_and(self.status, 0x0F).astype(np.int64)

    @property
    def kind(self) -> NDArray[np.uint8]:
        """[n_events], the status without its channel: 0x80, 0x90 .. 0xE0."""
        return np.bitwise_and(self.status, 0xF0).astype(np.uint8)


def read_events(data: bytes, *, max_bytes: int, max_tracks: int) -> ChannelEvents:
    """Read a file of type 0 or 1.

    Unknown chunks, bytes after the last promised track and after an end-of-track event are ignored; running status
    outlives meta events, as many programs write it so.

    Raises:
        BadMidi: not a MIDI file, broken, or of type 2; the message starts with the byte.
        LimitExceeded: too many bytes or tracks.
    """
    if len(data) > max_bytes:
        raise LimitExceeded(
            f"{len(data)} bytes of MIDI, more than {max_bytes} (PIANOFARM_MIDI_MAX_BYTES raises the limit)"
        )
    division, tracks = _chunks(data, max_tracks)
    padded = np.zeros(len(data) + _PADDING_BYTES, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    position, first_event = _walk(data, padded, tracks)

    n_delta, delta = _variable_length(padded, position)
    # Ticks since the start of each track: a running sum over all, less what had been summed where the track began.
    track = np.repeat(np.arange(len(tracks)), np.diff(first_event))
    before = np.concatenate(([0], np.cumsum(delta)))
    tick = before[1:] - before[first_event[track]]

    at_status = position + n_delta
    status = padded[at_status]
    is_explicit = _DATA_BYTES[status] > 0
    is_running = status < 0x80
    index = np.arange(len(position))
    latest = np.maximum.accumulate(np.where(is_explicit, index, -1)) if len(index) else index
    orphans = np.flatnonzero(is_running & (latest < first_event[track]))
    if len(orphans):
        where = int(at_status[orphans[0]])
        raise BadMidi(f"byte {where}: data byte 0x{data[where]:02x} without a status byte before it in its track")
    is_channel = is_explicit | is_running
    chosen = np.flatnonzero(is_channel)
    full_status = status[latest[chosen]]
    at_data = at_status[chosen] + is_explicit[chosen]
    return ChannelEvents(
        track=track[chosen],
        tick=tick[chosen],
        status=full_status,
        data1=padded[at_data],
        data2=np.where(_DATA_BYTES[full_status] == 2, padded[at_data + 1], 0).astype(np.uint8),
        clock=_clock(padded, division, at_status[: first_event[1]], tick[: first_event[1]]),
    )


def _chunks(data: bytes, max_tracks: int) -> tuple[int, list[tuple[int, int]]]:
    """The division word (signed) and the byte range [start, end) of every promised track."""
    if not data:
        raise BadMidi("byte 0: the file is empty")
    if data[:4] != b"MThd":
        raise BadMidi(f"byte 0: {data[:4]!r} where b'MThd' should be: not a Standard MIDI File")
    if len(data) < 14:
        raise BadMidi(f"byte {len(data)}: the file ends inside its header of 14 bytes")
    header_bytes = int.from_bytes(data[4:8], "big")
    if header_bytes < 6 or 8 + header_bytes > len(data):
        raise BadMidi(
            f"byte 4: header length {header_bytes}, but at least 6 and at most {len(data) - 8} bytes can follow"
        )
    kind, n_tracks = int.from_bytes(data[8:10], "big"), int.from_bytes(data[10:12], "big")
    division = int.from_bytes(data[12:14], "big", signed=True)
    if kind == 2:
        raise BadMidi(
            "byte 8: a type 2 file holds independent patterns, no single performance: export it as type 0 or 1"
        )
    if kind > 2:
        raise BadMidi(f"byte 8: unknown file type {kind}: only types 0 and 1 can be played")
    if n_tracks == 0:
        raise BadMidi("byte 10: the header promises no track: nothing to play")
    if n_tracks > max_tracks:
        raise LimitExceeded(f"{n_tracks} tracks, more than {max_tracks} (PIANOFARM_MIDI_MAX_TRACKS raises the limit)")
    if division == 0 or (division < 0 and (-(division >> 8) not in SMPTE_FRAMES_PER_S or division & 0xFF == 0)):
        raise BadMidi(f"byte 12: division 0x{division & 0xFFFF:04x} is neither ticks a quarter note nor a SMPTE rate")
    tracks: list[tuple[int, int]] = []
    offset = 8 + header_bytes
    while len(tracks) < n_tracks:
        if offset + 8 > len(data):
            raise BadMidi(
                f"byte {offset}: the file ends after {len(tracks)} of the {n_tracks} tracks its header promises"
            )
        start = offset + 8
        end = start + int.from_bytes(data[offset + 4 : start], "big")
        if end > len(data):
            raise BadMidi(
                f"byte {offset + 4}: the chunk {data[offset : offset + 4]!r} claims {end - start} bytes, "
                f"but only {len(data) - start} follow: the file is cut short"
            )
        if data[offset : offset + 4] == b"MTrk":
            tracks.append((start, end))
        offset = end
    return division, tracks


def _clock(padded: NDArray[np.uint8], division: int, at_status: NDArray[np.int64], tick: NDArray[np.int64]) -> Clock:
    """The clock of the file, from the tempo events of its first track (the only ones pretty_midi obeys)."""
    if division < 0:
        return smpte_clock(-(division >> 8), division & 0xFF)
    is_tempo = (padded[at_status] == _META) & (padded[at_status + 1] == _SET_TEMPO)
    at = at_status[is_tempo]
    upper, middle, lower = (padded[at + k].astype(np.int64) for k in (3, 4, 5))
    tempo_us = (upper << 16) | (middle << 8) | lower
    wrong = np.flatnonzero((padded[at + 2] != 3) | (tempo_us == 0))
    if len(wrong):
        first = wrong[0]
        raise BadMidi(
            f"byte {at[first]}: a tempo of {tempo_us[first]} microseconds in {padded[at[first] + 2]} bytes, where 3 should be"
        )
    return quarter_clock(division, tick[is_tempo], tempo_us)


def _variable_length(
    padded: NDArray[np.uint8], position: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes taken (1..4, 5: too many) and value of the variable-length quantities at these positions."""
    byte = padded[position].astype(np.int64)
    value, n_bytes = byte & 0x7F, np.ones_like(position)
    more = np.flatnonzero(byte >= 0x80)
    for k in range(1, 5):
        if len(more) == 0:
            break
        n_bytes[more] = k + 1
        if k == 4:
            break
        byte = padded[position[more] + k].astype(np.int64)
        value[more] = (value[more] << 7) | (byte & 0x7F)
        more = more[byte >= 0x80]
    return n_bytes, value


def _marks(n_bytes: int) -> tuple[int, int, int]:
    """Nodes that are no place in the file: an event that runs past it, the end of a track, no event at all."""
    return 2 * n_bytes + 2, 2 * n_bytes + 4 * _PADDING_BYTES, 2 * n_bytes + 4 * _PADDING_BYTES + 2


def _next_nodes(padded: NDArray[np.uint8], n_bytes: int) -> NDArray[np.int32]:
    """For node 2 * byte + s the node of the next event, [2 * n_bytes].

    s is 1 where running status stands for a message of one data byte, 0 for two. Three nodes past the file are marks: see
    `_marks`.
    """
    past_file, end_of_track, broken = _marks(n_bytes)
    nodes = np.empty((n_bytes, 2), np.int32)
    for start in range(0, n_bytes, _BLOCK_BYTES):
        position = np.arange(start, min(start + _BLOCK_BYTES, n_bytes))
        n_delta, _ = _variable_length(padded, position)
        at_status = position + n_delta
        status, first, second = padded[at_status], padded[at_status + 1], padded[at_status + 2]
        n_data = _DATA_BYTES[status]
        is_running = status < 0x80
        block = np.full((len(position), 2), broken, np.int64)
        good = (n_data == 2) & ((first | second) < 0x80)
        block[good] = (2 * (at_status[good] + 3))[:, None]
        good = (n_data == 1) & (first < 0x80)
        block[good] = (2 * (at_status[good] + 2) + 1)[:, None]
        good = is_running & (first < 0x80)
        block[good, 0] = 2 * (at_status[good] + 2)
        block[is_running, 1] = 2 * (at_status[is_running] + 1) + 1
        long = np.flatnonzero((status == _META) | (status == _SYSEX) | (status == _SYSEX_CONTINUED))
        at_length = at_status[long] + 1 + (status[long] == _META)
        # A position near the end may point past the padding; the file ends before its length does.
        at_length = np.minimum(at_length, n_bytes + _PADDING_BYTES - 4)
        n_length, length = _variable_length(padded, at_length)
        after = np.minimum(at_length + n_length + length, n_bytes + 1)
        after_node = np.where(n_length > 4, broken, 2 * after)
        is_end = (status[long] == _META) & (first[long] == _END_OF_TRACK) & (after <= n_bytes) & (n_length <= 4)
        after_node = np.where(is_end, end_of_track, after_node)
        keeps_state = after_node <= 2 * n_bytes
        block[long, 0] = after_node
        block[long, 1] = after_node + keeps_state
        block[(block > past_file) & (block < end_of_track)] = past_file
        block[n_delta > 4] = broken
        nodes[start : start + len(position)] = block
    return nodes.reshape(-1)


def _walk(
    data: bytes, padded: NDArray[np.uint8], tracks: list[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The byte at which every event begins, track by track, and the index of each track's first event [n_tracks + 1]."""
    following = _next_nodes(padded, len(data)).data
    _, end_of_track, _ = _marks(len(data))
    visited: list[int] = []
    first_event = [0]
    for start, end in tracks:
        node, limit = 2 * start, 2 * end
        while node < limit:
            visited.append(node)
            node = following[node]
        if node != end_of_track and node >> 1 != end:
            _explain(data, visited[-1] >> 1, visited[-1] & 1, end)
        if node == end_of_track:
            # An end-of-track event whose own bytes lie past the end of its chunk belongs to somebody else.
            event = visited[-1] >> 1
            if _event_end(data, event) > end:
                _explain(data, event, 0, end)
        first_event.append(len(visited))
    return np.array(visited, np.int64) >> 1, np.array(first_event, np.int64)


def _quantity(data: bytes, at: int, what: str, end: int) -> tuple[int, int]:
    """Value of the variable-length quantity at this byte, and the byte after it."""
    value = 0
    for k in range(4):
        if at + k >= end:
            raise BadMidi(f"byte {at + k}: the track ends inside a {what}")
        value = value << 7 | data[at + k] & 0x7F
        if data[at + k] < 0x80:
            return value, at + k + 1
    raise BadMidi(f"byte {at}: a {what} of more than four bytes")


def _event_end(data: bytes, at: int) -> int:
    """The byte after the meta event that begins (with its delta time) at this byte."""
    _, at_status = _quantity(data, at, "delta time", len(data))
    length, at_payload = _quantity(data, at_status + 2, "length", len(data))
    return at_payload + length


def _explain(data: bytes, at: int, state: int, end: int) -> NoReturn:
    """Raise what is wrong with the event at this byte of a track that ends at `end`."""
    _, at_status = _quantity(data, at, "delta time", end)
    if at_status >= end:
        raise BadMidi(f"byte {at_status}: the track ends between a delta time and its event")
    status = data[at_status]
    if status in (_META, _SYSEX, _SYSEX_CONTINUED):
        name = "meta event" if status == _META else "system exclusive event"
        length, at_payload = _quantity(data, at_status + 1 + (status == _META), f"length of a {name}", end)
        raise BadMidi(
            f"byte {at_status}: a {name} of {length} bytes, but its track ends {end - at_payload} bytes further on"
        )
    if status >= 0xF0:
        raise BadMidi(f"byte {at_status}: status 0x{status:02x} is not allowed in a MIDI file")
    n_data = (1 if state else 2) if status < 0x80 else int(_DATA_BYTES[status])
    at_data = at_status + (status >= 0x80)
    for k in range(at_data, at_data + n_data):
        if k >= end:
            raise BadMidi(f"byte {k}: the track ends inside an event that begins at byte {at_status}")
        if data[k] >= 0x80:
            raise BadMidi(
                f"byte {k}: 0x{data[k]:02x} where a data byte (below 0x80) of the event at byte {at_status} should be"
            )
    raise BadMidi(f"byte {at_status}: an event that cannot be read")
