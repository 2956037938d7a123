"""What the published models read of live events against what they read of the same file."""

import numpy as np
import pytest

from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_worker.synth.events import Control, EventQueue, NoteOff, NoteOn, events_of
from pianofarm_worker.synth.published.conditioning import conditioning
from pianofarm_worker.synth.published.live_notes import LiveNotes
from pianofarm_worker.synth.published.release import extend_pitch

LIMITS = MidiLimits(max_bytes=8_000_000, max_duration_s=7200.0, max_notes=500_000, max_tracks=1024)
RATE = 250


def live(events, n_frames, *, n_voices=16, release_s=1.0, block=2):
    queue, notes = EventQueue(), LiveNotes(n_voices, release_s, RATE)
    for event in events:
        queue.push(event, 0.0)
    blocks = [notes.frames(queue, block) for _ in range(n_frames // block)]
    return *(np.concatenate(part) for part in zip(*blocks, strict=True)), notes


def without_early_marks(notes):
    """A file marks an onset in the frame before too, where the pitch was sounding already; live nobody can know."""
    notes = notes.copy()
    velocity = notes[..., 1]
    for voice in range(notes.shape[1]):
        marked = np.flatnonzero(velocity[:, voice])
        for run in np.split(marked, np.flatnonzero(np.diff(marked) != 1) + 1):
            if len(run) == 3:
                velocity[run[0], voice] = 0
    return notes


def one_part(performance):
    columns = vars(performance) | {"note_part": np.zeros(0), "control_part": np.zeros(0)}
    return Performance(**{name: columns[name] for name in Performance.__dataclass_fields__})


def compare(performance, n_frames, **sizes):
    n_voices = sizes.get("n_voices", 16)
    file = conditioning(performance, n_voices=n_voices, duration_s=n_frames / RATE)
    notes, pitch, pedal, player = live(events_of(performance), n_frames, **sizes)
    np.testing.assert_array_equal(notes[..., 0], file.notes[..., 0])
    np.testing.assert_array_equal(pitch, extend_pitch(file.notes[..., 0], 1.0, RATE))
    np.testing.assert_array_equal(pedal, file.pedal)
    return notes, file, player


@pytest.mark.parametrize("name", ["bach_846", "chpn-p3", "liz_et3"])
def test_a_piece_played_live_gives_what_its_file_gives(shared, name):
    performance = one_part(read_performance((shared / "parity" / f"{name}.mid").read_bytes(), LIMITS))
    n_frames = 37 * RATE  # then two hands of chpn-p3 hold one key, and a file knows which of them let go
    notes, file, player = compare(performance, n_frames)

    # Onsets of a key struck again one frame after the last are too near to be told from early marks.
    wrong = (notes[..., 1] != without_early_marks(file.notes)[..., 1]).sum()
    assert wrong <= 0.02 * (file.notes[..., 1] > 0).sum()
    assert player.dropped_notes >= file.dropped_notes


@pytest.mark.parametrize("block", [1, 5, 10])
def test_blocks_of_any_length_give_the_same_frames(block):
    random = np.random.default_rng(3)
    onset_s = np.sort(random.random(60)) * 3
    performance = Performance(
        onset_s=onset_s,
        offset_s=onset_s + 0.02 + random.random(60),
        pitch=(30 + np.arange(60)).astype(np.uint8),
        velocity=random.integers(1, 128, 60).astype(np.uint8),
        control_s=np.array([0.5, 1.0, 1.2, 2.0, 3.9]),
        control_number=np.array([64, 64, 67, 64, 64], np.uint8),
        control_value=np.array([127, 0, 64, 100, 0], np.uint8),
    )
    notes, file, player = compare(performance, 1000, n_voices=4, block=block)

    np.testing.assert_array_equal(notes[..., 1], file.notes[..., 1])
    assert player.dropped_notes == file.dropped_notes > 0


def test_a_key_struck_again_is_marked_from_its_own_frame_on():
    notes, *_ = live([NoteOn(60, 127, 0.0), NoteOff(60, 0.2), NoteOn(60, 64, 0.2), NoteOff(60, 0.4)], 120)
    velocity = notes[:, 0, 1]

    np.testing.assert_array_equal(np.flatnonzero(velocity), [0, 1, 50, 51])
    np.testing.assert_allclose(velocity[[0, 50]], [1.0, 64 / 127])
    assert (notes[:100, 0, 0] == 60).all()
    assert not notes[100:, :, 0].any()


def test_a_tap_too_short_for_a_frame_is_heard():
    notes, *_ = live([NoteOn(60, 90, 0.1), NoteOff(60, 0.1001)], 60)

    np.testing.assert_array_equal(np.flatnonzero(notes[:, 0, 0]), [25])


def test_a_key_up_that_was_not_down_a_wheel_and_a_key_beyond_the_piano_change_nothing():
    notes, pitch, pedal, player = live([NoteOff(60, 0.1), Control(1, 127, 0.1), NoteOn(20, 90, 0.1)], 60)

    assert not notes.any()
    assert not pitch.any()
    assert not pedal.any()
    assert player.dropped_notes == 1


@pytest.mark.parametrize(("number", "frame"), [(123, 100), (120, 50), (121, 100)])
def test_all_notes_off_and_its_kin(number, frame):
    """All notes off leaves to the pedal what it holds; all sound off and a reset lift it."""
    keys = [Control(64, 127, 0.0), NoteOn(60, 90, 0.0)]
    end = [Control(number, 0, 0.2), NoteOff(60, 0.4), Control(64, 0, 0.4)]
    notes, *_ = live([*keys, *end], 200)

    assert notes[:frame, 0, 0].all()
    assert not notes[frame:, 0, 0].any()


def test_a_note_that_no_pedal_lifts_and_no_key_ends_goes_on():
    notes, pitch, _, player = live([NoteOn(60, 90, 0.0)], 20_000)

    assert (notes[:, 0, 0] == 60).all()
    assert (pitch[:, 0] == 60).all()
    assert len(player._notes) == 1
    assert player._struck == []
