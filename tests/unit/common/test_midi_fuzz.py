"""Whatever bytes come, they are a performance or a BadMidi; whatever valid file comes, it is what pretty_midi reads.

PIANOFARM_TEST_FUZZ=50 searches fifty times longer, from a new seed each time.
"""

import io
import os
import random
import struct
import warnings

import numpy as np
import pretty_midi
from hypothesis import given, settings
from hypothesis import strategies as st

from pianofarm_common.errors import BadMidi
from pianofarm_common.midi import MidiLimits, Performance, from_pretty_midi, read_performance

LIMITS = MidiLimits(max_bytes=100_000, max_duration_s=7200.0, max_notes=10_000, max_tracks=64)
FUZZ = int(os.environ.get("PIANOFARM_TEST_FUZZ", "1"))


def fuzzed(n_examples):
    return settings(max_examples=n_examples * FUZZ, derandomize=FUZZ == 1, deadline=None, database=None)


def quantity(value: int) -> bytes:
    """A MIDI variable-length quantity."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))


def any_event(dice):
    """A message (status, channel, data ...) or the bytes of a meta or system exclusive event.

    Few channels, keys and programs, so that notes overlap, collide and change hands.
    """
    channel, key, value = dice.choice([0, 0, 1, 9]), dice.randint(60, 62), dice.choice([0, 1, 63, 64, 127])
    kind = dice.choice([0x90, 0x90, 0x90, 0x80, 0x80, 0xB0, 0xB0, 0xC0, 0xC0, 0xD0, 0xE0, 0xA0, 0xFF, 0xFF, 0xF0])
    if kind == 0xB0:
        return kind, channel, dice.choice([1, 64, 64, 65, 66, 67, 123]), value
    if kind in (0xC0, 0xD0):
        return kind, channel, dice.randrange(2)
    if kind == 0xF0:
        payload = bytes(dice.randrange(128) for _ in range(dice.choice([0, 3, 130])))
        return b"\xf0" + quantity(len(payload) + 1) + payload + b"\xf7"
    if kind == 0xFF and dice.random() < 0.5:
        return b"\xff\x51\x03" + dice.choice([500_000, 500_000, 1, 333_333, 1_000_000, 0xFFFFFF]).to_bytes(3, "big")
    if kind == 0xFF:
        text = dice.randbytes(dice.choice([0, 3, 130]))
        return b"\xff\x01" + quantity(len(text)) + text
    return kind, channel, key, value


def any_track(dice):
    """Events as (delta, event, whether running status may be used)."""
    return [
        (dice.choice([0, 0, 1, 2, 3, 3, 128, 5000]), any_event(dice), dice.random() < 0.8)
        for _ in range(dice.randint(0, 80))
    ]


def any_file(seed):
    """A valid file of type 1."""
    dice = random.Random(seed)
    all_tracks = [any_track(dice) for _ in range(dice.randint(1, 3))]
    return file_of(all_tracks, division=dice.choice([1, 24, 96, 480, 32_767]))


SCALE = [(1, (0x90, 0, 60, 64), True), (5, (0xB0, 0, 64, 127), True), (9, (0x80, 0, 60, 0), True)]


def encode(events, *, is_first) -> bytes:
    """A track; running status where the third entry allows it, and never right after a system exclusive event."""
    out, running = b"", None
    for delta, event, may_run in events:
        if isinstance(event, bytes):
            if event[:2] == b"\xff\x51" and not is_first:
                continue
            out += quantity(delta) + event
            running = None if event[0] == 0xF0 else running
            continue
        status = event[0] | event[1]
        out += quantity(delta) + (b"" if may_run and running == status else bytes([status])) + bytes(event[2:])
        running = status
    return out + b"\x00\xff\x2f\x00"


def file_of(all_tracks, division=96, kind=1) -> bytes:
    chunks = [encode(events, is_first=k == 0) for k, events in enumerate(all_tracks)]
    header = b"MThd" + struct.pack(">LHHH", 6, kind, len(chunks), division)
    return header + b"".join(b"MTrk" + struct.pack(">L", len(chunk)) + chunk for chunk in chunks)


files = st.integers(0, 2**32).map(any_file)


def read_or_refuse(data: bytes) -> Performance | None:
    """The performance, checked for what every reader of it relies on; None where it was refused."""
    try:
        played = read_performance(data, LIMITS)
    except BadMidi as error:
        assert str(error)
        assert "\n" not in str(error)
        return None
    assert 0 < len(played.pitch) <= LIMITS.max_notes
    assert np.all(played.offset_s > played.onset_s)
    assert np.all(np.diff(played.onset_s) >= 0)
    assert np.all(np.diff(played.control_s) >= 0)
    assert played.onset_s[0] >= 0
    assert played.duration_s <= LIMITS.max_duration_s
    assert played.pitch.max() < 128
    assert 0 < played.velocity.min() <= played.velocity.max() < 128
    assert set(played.control_number.tolist()) <= {64, 65, 66, 67}
    return played


@fuzzed(200)
@given(files)
def test_a_valid_file_is_read_as_pretty_midi_reads_it(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        midi = pretty_midi.PrettyMIDI(io.BytesIO(data))
    played = read_or_refuse(data)
    try:
        expected = from_pretty_midi(midi, LIMITS)
    except BadMidi:  # no notes, or too long: refused either way
        assert played is None
        return
    assert played is not None
    for name in Performance.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(played, name), getattr(expected, name), err_msg=name)
    assert played.sha256 == expected.sha256


@fuzzed(300)
@given(files, st.data())
def test_a_file_with_damaged_bytes_is_read_or_refused(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        at = draw.draw(st.integers(0, len(damaged) - 1))
        value = draw.draw(st.sampled_from([0x00, 0x7F, 0x80, 0xFF, 0xF0, 0xF7, 0x2F, *range(256)]))
        action = draw.draw(st.sampled_from(["set", "set", "delete", "insert"]))
        if action == "set":
            damaged[at] = value
        elif action == "delete" and len(damaged) > 1:
            del damaged[at]
        else:
            damaged.insert(at, value)
    read_or_refuse(bytes(damaged))


@fuzzed(5)
@given(files)
def test_a_file_cut_anywhere_is_refused(data):
    whole = read_or_refuse(file_of([SCALE]))
    assert whole is not None
    for cut in range(0, len(data), 1 + len(data) // 200):
        assert read_or_refuse(data[:cut]) is None


@fuzzed(300)
@given(st.binary(max_size=300), st.integers(0, 3), st.integers(0, 65_535))
def test_random_bytes_behind_a_good_header_are_read_or_refused(noise, n_tracks, division):
    header = b"MThd" + struct.pack(">LHHH", 6, 1, n_tracks, division)
    read_or_refuse(noise)
    read_or_refuse(header + noise)
    read_or_refuse(header + b"MTrk" + struct.pack(">L", len(noise)) + noise)
    read_or_refuse(header + b"MTrk" + struct.pack(">L", len(noise)) + noise + file_of([SCALE])[14:])
