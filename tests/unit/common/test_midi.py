"""Reading MIDI: what is accepted, what it means, and the byte each refusal names."""

import io
import struct
import warnings

import mido
import numpy as np
import pretty_midi
import pytest

from pianofarm_common.errors import BadMidi, LimitExceeded
from pianofarm_common.midi import MidiLimits, Performance, from_pretty_midi, read_performance, to_pretty_midi
from pianofarm_common.settings import Settings

LIMITS = MidiLimits(max_bytes=8_000_000, max_duration_s=7200.0, max_notes=500_000, max_tracks=1024)
END = b"\x00\xff\x2f\x00"
NOTE = b"\x00\x90\x3c\x40" + b"\x60\x80\x3c\x00"  # middle C, 96 ticks


def track(events: bytes) -> bytes:
    return b"MTrk" + struct.pack(">L", len(events)) + events


def smf(*tracks: bytes, kind: int = 1, division: int = 96, n_tracks: int | None = None) -> bytes:
    header = struct.pack(">LHHh", 6, kind, len(tracks) if n_tracks is None else n_tracks, division)
    return b"MThd" + header + b"".join(track(events) for events in tracks)


def read(data: bytes, limits: MidiLimits = LIMITS) -> Performance:
    return read_performance(data, limits)


def oracle(data: bytes) -> Performance:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_pretty_midi(pretty_midi.PrettyMIDI(io.BytesIO(data)))


def columns(performance: Performance) -> dict[str, object]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in ((name, getattr(performance, name)) for name in performance.__dataclass_fields__)
    }


def test_every_piece_is_read_as_pretty_midi_reads_it_to_the_last_bit(shared):
    files = [*sorted((shared / "midi" / "pieces").glob("*.mid")), *sorted((shared / "parity").glob("*.mid"))]
    assert len(files) >= 40
    for file in files:
        ours, expected = read(file.read_bytes()), oracle(file.read_bytes())
        assert columns(ours) == columns(expected), file.name
        assert ours.sha256 == expected.sha256, file.name


def test_every_broken_or_odd_file_is_read_or_refused_in_one_line(shared):
    outcomes = {}
    for file in sorted((shared / "midi" / "malformed").glob("*.mid")):
        try:
            outcomes[file.stem] = len(read(file.read_bytes()).pitch)
        except BadMidi as error:
            assert "\n" not in str(error)
            outcomes[file.stem] = str(error).split(":")[0]
    assert outcomes == {
        "Issue104_Bizarre_Love_Triangle2": "byte 20968",
        "RunTimeError_unexpected_EOF": 3141,
        "ValueError_Control168": "byte 6042",
        "test-2-tracks-type-2": "byte 8",
        "test-all-gm-percussion": "no note for a piano in this MIDI",
        "test-c-major-scale": 8,
        "test-corrupt-file-extra-byte": 8,
        "test-corrupt-file-missing-byte": "byte 18",
        "test-empty": "no note for a piano in this MIDI",
        "test-empty-file": "byte 0",
        "test-illegal-message-all": "byte 187",
        "test-multichannel-chords-3": 24,
        "test-non-midi-track": 8,
        "test-running-status-sysex": 8,
        "test-silence-end-of-track": "no note for a piano in this MIDI",
        "test-smpte-offset": 8,
        "test-track-length": 1,
        "test-vlq-4-byte": 8,
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: the file is empty"),
        (b"RIFF" + bytes(40), "byte 0: b'RIFF' where b'MThd' should be"),
        (smf(NOTE)[:11], "byte 11: the file ends inside its header"),
        (b"MThd\x00\x00\x00\x04" + bytes(10), "byte 4: header length 4"),
        (b"MThd\xff\xff\xff\xff" + bytes(10), "byte 4: header length 4294967295"),
        (smf(NOTE, kind=2), "byte 8: a type 2 file"),
        (smf(NOTE, kind=3), "byte 8: unknown file type 3"),
        (smf(), "byte 10: the header promises no track"),
        (smf(NOTE, division=0), "byte 12: division 0x0000"),
        (smf(NOTE, division=-(31 << 8) | 40), "byte 12: division 0xe128"),
        (smf(NOTE, division=-(25 << 8)), "byte 12: division 0xe700"),
        (smf(NOTE + END, n_tracks=3), "byte 34: the file ends after 1 of the 3 tracks"),
        (smf(NOTE + END)[:-1], "byte 18: the chunk b'MTrk' claims 12 bytes, but only 11 follow"),
        (smf(NOTE + b"\x00"), "byte 31: the track ends between a delta time and its event"),
        (smf(NOTE + b"\x00\x90\x3c"), "byte 33: the track ends inside an event that begins at byte 31"),
        (smf(b"\x00\x90\x3c\x90" + NOTE), "byte 25: 0x90 where a data byte"),
        (smf(b"\x00\xc0\x80" + NOTE), "byte 24: 0x80 where a data byte"),
        (smf(b"\x00\x3c\x40" + NOTE), "byte 23: data byte 0x3c without a status byte"),
        (smf(NOTE, b"\x00\x3c\x40" + NOTE), "byte 39: data byte 0x3c without a status byte"),
        (smf(NOTE + b"\x81\x81\x81\x81\x01\x90\x3c\x40"), "byte 30: a delta time of more than four bytes"),
        (smf(NOTE + b"\x81\x81"), "byte 32: the track ends inside a delta time"),
        (smf(NOTE + b"\x00\xf1\x00"), "byte 31: status 0xf1 is not allowed"),
        (smf(NOTE + b"\x00\xff\x01\x7fabc"), "byte 31: a meta event of 127 bytes, but its track ends 3 bytes"),
        (smf(NOTE + b"\x00\xff\x01\xff\xff\xff\xff\x7f"), "byte 33: a length of a meta event of more than four bytes"),
        (
            smf(NOTE + b"\x00\xf0\x05\x01\xf7"),
            "byte 31: a system exclusive event of 5 bytes, but its track ends 2 bytes",
        ),
        (smf(NOTE + b"\x00\xff\x2f\x09"), "byte 31: a meta event of 9 bytes, but its track ends 0 bytes"),
        (smf(NOTE + b"\x00\xff\x2f\x08", bytes(40)), "byte 31: a meta event of 8 bytes, but its track ends 0 bytes"),
        (smf(b"\x00\xff\x51\x03\x00\x00\x00" + NOTE), "byte 23: a tempo of 0 microseconds"),
        (smf(b"\x00\xff\x51\x02\x07\xa1" + NOTE), "byte 23: a tempo of"),
        (smf(END), "no note for a piano in this MIDI"),
        (smf(b"\x00\x99\x24\x40\x60\x89\x24\x00"), "no note for a piano in this MIDI: 1 notes are percussion"),
        (smf(b"\x00\x90\x3c\x40"), "no note for a piano in this MIDI: 1 note-on events have no note-off"),
    ],
)
def test_a_broken_file_is_refused_by_the_byte_that_breaks_it(data, message):
    with pytest.raises(BadMidi) as caught:
        read(data)
    assert str(caught.value).startswith(message)
    assert not isinstance(caught.value, LimitExceeded)


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (MidiLimits(40, 7200.0, 100, 100), "PIANOFARM_MIDI_MAX_BYTES"),
        (MidiLimits(10_000, 0.9, 100, 100), "PIANOFARM_MIDI_MAX_DURATION_S"),
        (MidiLimits(10_000, 7200.0, 1, 100), "PIANOFARM_MIDI_MAX_NOTES"),
        (MidiLimits(10_000, 7200.0, 100, 1), "PIANOFARM_MIDI_MAX_TRACKS"),
    ],
)
def test_what_exceeds_a_limit_is_refused_by_the_name_of_its_setting(limits, setting):
    data = smf(NOTE + END, NOTE + NOTE + END)
    assert len(read(data).pitch) == 3
    with pytest.raises(LimitExceeded, match=setting):
        read(data, limits)


def test_limits_come_from_the_settings():
    assert MidiLimits.from_settings(Settings(midi_max_notes=7)) == MidiLimits(8_000_000, 7200.0, 7, 1024)


def test_a_pedal_hours_after_the_last_note_counts_as_duration():
    late = b"\xff\xff\xff\x7f\xb0\x40\x00"
    with pytest.raises(LimitExceeded, match="PIANOFARM_MIDI_MAX_DURATION_S"):
        read(smf(NOTE + late + END))


def test_a_note_has_the_time_pitch_and_velocity_of_its_events():
    played = read(smf(b"\x30" + NOTE[1:] + END))
    assert columns(played) == {
        "onset_s": [0.25],
        "offset_s": [0.75],
        "pitch": [60],
        "velocity": [64],
        "control_s": [],
        "control_number": [],
        "control_value": [],
        "percussion_notes": 0,
        "note_part": [0],
        "control_part": [],
    }
    assert played.duration_s == 0.75


def test_running_status_outlives_meta_and_sysex_events_and_covers_one_byte_messages():
    explicit = smf(b"\x00\xc0\x01\x00\xc0\x00\x00\x90\x3c\x40\x60\x90\x3c\x00" + END)
    running = smf(
        b"\x00\xc0\x01\x00\xff\x01\x01a\x00\x00\x00\x90\x3c\x40\x00\xff\x01\x01a\x00\xf0\x01\xf7\x60\x3c\x00" + END
    )
    assert read(running).sha256 == read(explicit).sha256


@pytest.mark.parametrize(
    ("frames_per_s", "ticks_per_frame", "rate_hz"),
    [(24, 4, 96.0), (25, 40, 1000.0), (29, 80, 2400 / 1.001), (30, 80, 2400.0)],
)
def test_a_smpte_division_counts_real_time_whatever_the_tempo(frames_per_s, ticks_per_frame, rate_hz):
    tempo = b"\x00\xff\x51\x03\x0f\x42\x40"
    played = read(smf(tempo + NOTE + END, division=-(frames_per_s << 8) | ticks_per_frame))
    assert played.duration_s == pytest.approx(96 / rate_hz, rel=1e-12)


def test_tempo_changes_of_the_first_track_move_every_track():
    tempi = b"\x60\xff\x51\x03\x0f\x42\x40" + b"\x60\xff\x51\x03\x03\xd0\x90" + END  # half, then double speed
    played = read(smf(tempi, b"\x81\x40" + NOTE[1:] + END))
    assert played.onset_s.tolist() == [1.5]
    assert played.duration_s == 1.75


def test_percussion_is_left_out_and_counted():
    played = read(smf(NOTE + END, b"\x00\x99\x24\x40\x60\x89\x24\x00\x00\xb9\x40\x7f" + END))
    assert played.percussion_notes == 1
    assert played.pitch.tolist() == [60]
    assert len(played.control_s) == 0


def test_pedals_keep_every_half_position_and_other_controllers_are_left_out():
    controls = b"".join(
        bytes((0, 0xB0, number, value)) for number in (1, 7, 64, 65, 66, 67, 68) for value in (0, 1, 63, 64, 126)
    )
    played = read(smf(controls + NOTE + END))
    assert played.control_number.tolist() == [64] * 5 + [65] * 5 + [66] * 5 + [67] * 5
    assert played.control_value.tolist() == [0, 1, 63, 64, 126] * 4


def test_a_note_off_ends_every_older_note_of_its_key():
    struck_twice = b"\x00\x90\x3c\x40" + b"\x10\x90\x3c\x50" + b"\x10\x80\x3c\x00" + b"\x10\x80\x3c\x00" + END
    played = read(smf(struck_twice))
    assert played.velocity.tolist() == [64, 80]
    assert played.offset_s[0] == played.offset_s[1]


def test_a_note_struck_at_the_tick_of_a_note_off_goes_on():
    played = read(smf(b"\x00\x90\x3c\x40" + b"\x30\x90\x3c\x50" + b"\x00\x80\x3c\x00" + b"\x30\x80\x3c\x00" + END))
    assert played.onset_s.tolist() == [0.0, 0.25]
    assert played.offset_s.tolist() == [0.25, 0.5]


def test_a_note_that_ends_at_the_tick_it_began_is_no_note_even_if_ended_again():
    played = read(smf(b"\x00\x90\x3c\x40" + b"\x00\x80\x3c\x00" + b"\x30\x80\x3c\x00" + NOTE + END))
    assert played.onset_s.tolist() == [0.25]


@pytest.mark.parametrize(
    "events",
    [
        b"\x00\xc0\x01\x00\x90\x3c\x40\x60\xc0\x02\x00\x80\x3c\x00" + NOTE,  # the program at the note-off counts
        b"\x00\xb0\x40\x7f"
        + NOTE
        + b"\x00\xc0\x05\x00\xb0\x40\x00"
        + NOTE
        + b"\x00\xb0\x40\x20",  # shared early pedals
        b"\x00\xe0\x00\x40" + NOTE + b"\x00\xb0\x40\x30\x00\xc0\x05\x00\xb0\x40\x00" + NOTE,  # a bend makes them shared
        NOTE + b"\x00\xb0\x40\x7f\x00\xc0\x05" + NOTE + b"\x00\xb0\x40\x00\x00\xc0\x00\x00\xb0\x40\x11" + NOTE,
        NOTE + b"\x00\xc0\x05\x00\xb0\x40\x7f" + NOTE + b"\x00\xc0\x06\x00\xb0\x40\x01" + NOTE,
    ],
)
def test_a_program_change_between_notes_makes_parts_as_pretty_midi_makes_instruments(events):
    data = smf(END, events + END)
    assert columns(read(data)) == columns(oracle(data))
    assert max(read(data).note_part.tolist()) > 0 or len(read(data).pitch) == 2


def test_chunks_of_unknown_kind_and_what_follows_the_end_are_ignored():
    data = smf(NOTE + END)
    alien = b"XFIH" + struct.pack(">L", 3) + b"abc"
    assert read(data[:14] + alien + data[14:] + b"trailing").sha256 == read(data).sha256
    assert read(smf(NOTE + END + b"\x00\xf4garbage")).sha256 == read(data).sha256


def test_the_digest_is_that_of_the_music_not_of_the_file():
    music = [
        mido.Message("control_change", control=64, value=90, time=0),
        mido.Message("note_on", note=60, velocity=70, time=10),
        mido.Message("note_on", note=64, velocity=71, time=0),
        mido.Message("note_off", note=60, time=400),
        mido.Message("note_off", note=64, time=0),
    ]
    swapped = [music[0], music[2].copy(time=10), music[1].copy(time=0), *music[3:]]
    named = [
        mido.MetaMessage("track_name", name="a hand"),
        *music,
        mido.Message("control_change", control=7, value=3, time=9),
    ]

    def saved(kind, *tracks):
        buffer = io.BytesIO()
        mido.MidiFile(type=kind, ticks_per_beat=480, tracks=[mido.MidiTrack(t) for t in tracks]).save(file=buffer)
        return read(buffer.getvalue())

    first = saved(0, music)
    assert {first.sha256} == {saved(1, [], music).sha256, saved(0, swapped).sha256, saved(1, named).sha256}
    louder = [*music[:2], music[2].copy(velocity=72), *music[3:]]
    half_pedal = [music[0].copy(value=63), *music[1:]]
    later = [*music[:4], music[4].copy(time=1)]
    assert len({first.sha256, *(saved(0, other).sha256 for other in (louder, half_pedal, later))}) == 4
    other_hand = [message for message in music if message.dict().get("note") != 64]
    assert saved(1, other_hand, [music[2], music[4].copy(time=400)]).sha256 != first.sha256


def test_a_performance_survives_pretty_midi_unchanged(shared):
    played = read((shared / "parity" / "bach_846.mid").read_bytes())
    midi = to_pretty_midi(played)
    assert columns(from_pretty_midi(midi)) == columns(played)
    buffer = io.BytesIO()
    midi.write(buffer)
    again = read(buffer.getvalue())
    assert again.pitch.tolist() == played.pitch.tolist()
    np.testing.assert_allclose(again.onset_s, played.onset_s, atol=0.0006)


def test_a_note_of_no_length_in_a_pretty_midi_still_sounds():
    midi = pretty_midi.PrettyMIDI()
    midi.instruments = [pretty_midi.Instrument(0)]
    midi.instruments[0].notes = [pretty_midi.Note(64, 60, 1.0, 1.0)]
    played = from_pretty_midi(midi)
    assert played.offset_s[0] > played.onset_s[0] == 1.0


def test_a_pretty_midi_with_impossible_values_is_refused():
    def with_note(**changes):
        note = {"velocity": 64, "pitch": 60, "start": 0.0, "end": 1.0} | changes
        midi = pretty_midi.PrettyMIDI()
        midi.instruments = [pretty_midi.Instrument(0)]
        midi.instruments[0].notes = [pretty_midi.Note(**note)]
        return from_pretty_midi(midi, LIMITS)

    assert with_note().velocity.tolist() == [64]
    for changes, message in (
        ({"pitch": 128}, "a pitch of 128"),
        ({"velocity": 0}, "a velocity of 0"),
        ({"velocity": 64.5}, "a velocity of 64.5"),
        ({"start": -1.0}, "a time of -1.0 s"),
        ({"end": float("inf")}, "a time of inf s"),
    ):
        with pytest.raises(BadMidi, match=message):
            with_note(**changes)
    with pytest.raises(LimitExceeded, match="PIANOFARM_MIDI_MAX_DURATION_S"):
        with_note(end=1e6)
    with pytest.raises(BadMidi, match="no note"):
        from_pretty_midi(pretty_midi.PrettyMIDI())


def test_notes_are_counted_by_when_they_begin():
    performance = read(smf(NOTE + NOTE + NOTE + END))  # onsets every half second
    assert [performance.n_notes(until_s) for until_s in (None, 0.0, 0.4, 0.6, 9.0)] == [3, 0, 1, 2, 3]
