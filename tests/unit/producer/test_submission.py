"""Every kind of source becomes MIDI bytes; what cannot be read says why."""

import pretty_midi
import pytest

from pianofarm.submission import midi_bytes, name_of, parse_options, parse_priority
from pianofarm_common.errors import BadMidi, BadOption
from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.renders import RenderOptions

LIMITS = MidiLimits(max_bytes=100_000, max_duration_s=60, max_notes=100, max_tracks=8)


def test_a_pretty_midi_object_is_read_as_it_would_be_written():
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    piano.notes.append(pretty_midi.Note(velocity=80, pitch=60, start=0.5, end=1.0))
    midi.instruments.append(piano)
    performance = read_performance(midi_bytes(midi, 1000), LIMITS)
    assert (list(performance.pitch), list(performance.velocity)) == ([60], [80])
    assert performance.onset_s[0] == pytest.approx(0.5, abs=2e-3)


def test_a_pretty_midi_object_with_impossible_values_is_bad_midi():
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    piano.notes.append(pretty_midi.Note(velocity=300, pitch=60, start=0.5, end=1.0))
    midi.instruments.append(piano)
    with pytest.raises(BadMidi, match="cannot be written"):
        midi_bytes(midi, 1000)


def test_no_more_of_a_file_is_read_than_the_limit_and_one_byte(tmp_path):
    (tmp_path / "big.mid").write_bytes(b"x" * 1000)
    assert len(midi_bytes(tmp_path / "big.mid", 10)) == 11


@pytest.mark.parametrize("name", ["missing.mid", ".", "bad\0name.mid"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(BadMidi, match="cannot read"):
        midi_bytes(f"{tmp_path}/{name}", 10)


def test_sources_have_names_for_people(tmp_path):
    assert (name_of(tmp_path / "a.mid"), name_of(b"MThd"), name_of(pretty_midi.PrettyMIDI())) == (
        "a.mid",
        "bytes",
        "PrettyMIDI",
    )


def test_options_are_checked_by_name():
    assert parse_options({"piano": 3}) == RenderOptions(piano=3)
    assert parse_options(None) == RenderOptions()
    with pytest.raises(BadOption, match="pianos"):
        parse_options({"pianos": 3})


def test_a_priority_is_one_of_three():
    assert parse_priority("bulk") == "bulk"
    with pytest.raises(BadOption, match="interactive, standard, bulk"):
        parse_priority("urgent")
