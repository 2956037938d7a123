"""Conditioning against the original: its fixtures, and its algorithm written out frame by frame and event by event."""

import collections
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_worker.synth.published.conditioning import conditioning
from pianofarm_worker.synth.published.voices import VoiceAllocator

LIMITS = MidiLimits(max_bytes=8_000_000, max_duration_s=7200.0, max_notes=500_000, max_tracks=1024)
#: More than 1 searches longer, from a new seed each time.
FUZZ = int(os.environ.get("PIANOFARM_TEST_FUZZ", "1"))
RATE = 250


# The original: note_seq's apply_sustain_control_changes and sequence_to_pianoroll (onset window of one frame), then
# ddsp-piano's MIDIRoll2Conditioning, without their libraries.


class Note:
    def __init__(self, start, end, pitch, velocity, part):
        self.start, self.end, self.pitch, self.velocity, self.part = start, end, pitch, velocity, part


def original_sustain(performance):
    rows = zip(
        performance.onset_s.tolist(),
        performance.offset_s.tolist(),
        performance.pitch.tolist(),
        performance.velocity.tolist(),
        performance.note_part.tolist(),
        strict=True,
    )
    # pretty_midi lists notes instrument by instrument.
    notes = sorted((Note(*row) for row in rows), key=lambda note: note.part)
    total = max((note.end for note in notes), default=0.0)
    events = [(note.start, 2, note) for note in notes] + [(note.end, 3, note) for note in notes]
    for time, number, value, part in original_controls(performance):
        if number == 64:
            events.append((time, 0 if value >= 64 else 1, part))
    events.sort(key=lambda event: event[:2])
    active, pedal, removed, time = collections.defaultdict(list), collections.defaultdict(bool), [], 0.0
    for time, kind, what in events:
        if kind == 0:
            pedal[what] = True
        elif kind == 1:
            pedal[what] = False
            for note in [note for note in active[what] if note.end < time]:
                note.end = time
                total = max(total, time)
                active[what].remove(note)
        elif kind == 2:
            if pedal[what.part]:
                for note in [note for note in active[what.part] if note.pitch == what.pitch]:
                    note.end = time
                    if note.start == time:
                        removed.append(note)
                    active[what.part].remove(note)
            active[what.part].append(what)
        elif not pedal[what.part] and what in active[what.part]:
            active[what.part].remove(what)
    for notes_of_part in active.values():
        for note in notes_of_part:
            note.end = total = time
    return [note for note in notes if note not in removed], total


def original_controls(performance):
    rows = zip(
        performance.control_s.tolist(),
        performance.control_number.tolist(),
        performance.control_value.tolist(),
        performance.control_part.tolist(),
        strict=True,
    )
    return sorted(rows, key=lambda row: row[3])


def original_roll(notes, controls, total):
    n_frames = int(total * RATE + 1)
    active, onsets, velocities = (np.zeros((n_frames, 88), np.float32) for _ in range(3))
    control_changes = np.zeros((n_frames, 128), np.int32)
    for note in sorted(notes, key=lambda note: note.start):
        if not 21 <= note.pitch <= 108:
            continue
        start = int(note.start * RATE)
        end = max(start + 1, math.ceil(note.end * RATE))
        onsets[max(0, start - 1) : start + 2, note.pitch - 21] = 1.0
        active[start:end, note.pitch - 21] = 1.0
        velocities[start:end, note.pitch - 21] = note.velocity / 127
    for time, number, value, _ in controls:
        if int(time * RATE) < n_frames:
            control_changes[int(time * RATE), number] = value + 1
    return active, velocities * onsets, control_changes[:, 64:68] / 128.0


class OriginalAllocation:
    def __init__(self, n_voices):
        self.n_voices, self.assigner = n_voices, 0
        self.reorder, self.assigned = np.arange(n_voices), np.zeros(n_voices)

    def advance(self):
        self.assigner = (self.assigner + 1) % self.n_voices
        if 0 not in self.assigned:
            self.assigner = -1
        else:
            while self.assigned[self.assigner] != 0:
                self.assigner = (self.assigner + 1) % self.n_voices

    def __call__(self, active, onset_velocity):
        activity = active * np.arange(21, 109)
        highest = np.argsort(activity)[:, -self.n_voices :]
        pitches = np.take_along_axis(activity, highest, axis=-1)
        velocity = np.take_along_axis(onset_velocity, highest, axis=-1)
        for t in range(len(pitches)):
            if t == 0 or set(pitches[t].tolist()) != set(self.assigned.tolist()):
                self.change(pitches[t])
            pitches[t], velocity[t] = pitches[t][self.reorder], velocity[t][self.reorder]
        return np.stack([pitches, velocity], axis=-1).astype(np.float32)

    def change(self, pitches):
        reorder = np.zeros(self.n_voices, dtype=int)
        for voice in range(self.n_voices):
            if self.assigned[voice] not in pitches:
                self.assigned[voice] = 0
                if self.assigner == -1:
                    self.advance()
        for c in range(self.n_voices):
            if pitches[c] in self.assigned and pitches[c] != 0:
                reorder[np.where(self.assigned == pitches[c])[0][0]] = c
        for c in range(self.n_voices):
            if pitches[c] not in self.assigned:
                reorder[self.assigner] = c
                self.assigned[self.assigner] = pitches[c]
                self.advance()
        for c in range(self.n_voices):
            if pitches[c] == 0:
                reorder[self.assigner] = c
                self.advance()
        self.reorder = reorder


def fit(rows, n_rows):
    return np.pad(rows[:n_rows], [(0, max(0, n_rows - len(rows)))] + [(0, 0)] * (rows.ndim - 1))


def original(performance, *, n_voices=16, warm_up_s=0.0, duration_s=None):
    notes, total = original_sustain(performance)
    active, onset_velocity, pedal = original_roll(notes, original_controls(performance), total)
    n_music = int(np.ceil(total) * RATE) if duration_s is None else int(duration_s * RATE)
    voices = fit(OriginalAllocation(n_voices)(active[:n_music], onset_velocity[:n_music]), n_music)
    front = int(warm_up_s * RATE)
    unheard = 0
    for note in notes:
        start, end = int(note.start * RATE), max(int(note.start * RATE) + 1, math.ceil(note.end * RATE))
        heard = (voices[start:end, :, 0] == note.pitch).any(axis=1)
        unheard += len(heard) > 0 and not heard.all()
    notes_out = np.concatenate([np.zeros((front, n_voices, 2), np.float32), voices])
    return notes_out, np.concatenate([np.zeros((front, 4)), fit(pedal, n_music)]).astype(np.float32), unheard


def assert_same(performance, **options):
    ours = conditioning(performance, **options)
    notes, pedal, unheard = original(performance, **options)
    np.testing.assert_array_equal(ours.notes, notes)
    np.testing.assert_array_equal(ours.pedal, pedal)
    assert ours.notes.dtype == ours.pedal.dtype == np.float32
    assert ours.dropped_notes == unheard


def read(path: Path) -> Performance:
    return read_performance(path.read_bytes(), LIMITS)


@pytest.mark.parametrize(
    ("fixture", "midi", "duration_s"),
    [
        ("bach_846.npz", "bach_846.mid", 6),
        ("chpn-p3.npz", "chpn-p3.mid", 6),
        ("liz_et3.npz", "liz_et3.mid", 6),
        ("maestro-v2-random/expected.npz", "chpn-p3.mid", 3),
        ("ENSTDkCl-8kHz-random/expected.npz", "liz_et3.mid", 3),
        ("ENSTDkCl-32kHz-random/expected.npz", "liz_et3.mid", 2),
    ],
)
def test_conditioning_and_pedal_are_bit_equal_to_the_original_renders(shared, fixture, midi, duration_s):
    with np.load(shared / "parity" / fixture) as expected:
        ours = conditioning(read(shared / "parity" / midi), warm_up_s=0.5, duration_s=duration_s)
        np.testing.assert_array_equal(ours.notes, expected["conditioning"])
        np.testing.assert_array_equal(ours.pedal, expected["pedal"])


@pytest.mark.parametrize("piece", ["grieg_wanderer", "ravel_miroirs_1", "mos_op36_6", "liz_et5", "bethena"])
def test_half_a_minute_of_a_piece_is_bit_equal_to_the_original_algorithm(shared, piece):
    assert_same(read(shared / "midi" / "pieces" / f"{piece}.mid"), warm_up_s=0.5, duration_s=30.0)


def test_a_whole_piece_is_bit_equal_to_the_original_algorithm(shared):
    assert_same(read(shared / "midi" / "pieces" / "scn15_9.mid"))


def any_time(dice):
    """Times on a coarse grid meet each other and the edges of frames; the others do not."""
    return dice.choice([dice.randrange(40) * 0.012, dice.uniform(0.0, 0.5)])


def any_rows(dice):
    """Notes and controls, crowded: few pitches, three parts, pedals that move together."""
    pitches = dice.choice([range(58, 63), range(50, 80), range(128)])
    longest_s = dice.choice([0.0, 0.02, 0.5])
    notes = [
        (any_time(dice), dice.uniform(0.0, longest_s), dice.choice(pitches), dice.randint(1, 127), dice.randrange(3))
        for _ in range(dice.randint(1, 60))
    ]
    controls = [
        (any_time(dice), dice.choice([64, 64, 64, 66, 67]), dice.choice([0, 63, 64, 127]), dice.randrange(3))
        for _ in range(dice.randint(0, 20))
    ]
    return notes, controls


def performance_of(notes, controls):
    notes = sorted(notes, key=lambda row: (row[0], row[2], row[4]))
    controls = sorted(controls, key=lambda row: (row[0], row[1], row[3]))
    onset, length, pitch, velocity, part = np.array(notes, float).reshape(-1, 5).T
    time, number, value, control_part = np.array(controls, float).reshape(-1, 4).T
    return Performance(
        onset_s=onset,
        offset_s=np.maximum(onset + length, np.nextafter(onset, np.inf)),
        pitch=pitch.astype(np.uint8),
        velocity=velocity.astype(np.uint8),
        control_s=time,
        control_number=number.astype(np.uint8),
        control_value=value.astype(np.uint8),
        note_part=part.astype(np.uint32),
        control_part=control_part.astype(np.uint32),
    )


@settings(max_examples=150 * FUZZ, derandomize=FUZZ == 1, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32),
    n_voices=st.sampled_from([1, 2, 3, 5, 16]),
    duration_s=st.sampled_from([None, 0.3, 0.801]),
)
def test_any_performance_is_bit_equal_to_the_original_algorithm(seed, n_voices, duration_s):
    notes, controls = any_rows(random.Random(seed))
    ours = conditioning(performance_of(notes, controls), n_voices=n_voices, duration_s=duration_s)
    expected_notes, expected_pedal, _ = original(
        performance_of(notes, controls), n_voices=n_voices, duration_s=duration_s
    )
    np.testing.assert_array_equal(ours.notes, expected_notes)
    np.testing.assert_array_equal(ours.pedal, expected_pedal)
    on_piano = [row for row in notes if 21 <= row[2] <= 108]
    if on_piano:
        assert_same(performance_of(on_piano, controls), n_voices=n_voices, duration_s=duration_s)


def chord(pitches, velocity=100):
    return performance_of([(0.1, 0.5, pitch, velocity, 0) for pitch in pitches], [])


def test_past_sixteen_voices_the_lowest_notes_are_left_out_and_counted():
    full = conditioning(chord(range(40, 56)))
    over = conditioning(chord(range(38, 56)))
    assert full.dropped_notes == 0
    assert over.dropped_notes == 2
    assert set(over.notes[50, :, 0].tolist()) == set(map(float, range(40, 56)))


def test_notes_beyond_the_keys_of_a_piano_are_counted_as_left_out():
    assert conditioning(chord([20, 21, 108, 109])).dropped_notes == 2


def test_a_tail_adds_silent_frames_and_a_warm_up_puts_them_in_front():
    plain = conditioning(chord([60]))
    longer = conditioning(chord([60]), warm_up_s=0.5, tail_s=2.0)
    assert longer.n_frames == plain.n_frames + 125 + 500
    np.testing.assert_array_equal(longer.notes[125 : 125 + plain.n_frames], plain.notes)
    assert not longer.notes[:125].any()
    assert not longer.notes[125 + plain.n_frames :].any()


def test_half_a_pedal_is_told_to_the_model_but_holds_notes_only_from_64_on():
    def played(value):
        return conditioning(performance_of([(0.0, 0.1, 60, 90, 0)], [(0.0, 64, value, 0), (0.5, 64, 0, 0)]))

    below, above = played(63), played(64)
    assert below.pedal[0, 0] == 64 / 128
    assert above.pedal[0, 0] == 65 / 128
    assert np.count_nonzero(below.notes[..., 0]) == 25
    assert np.count_nonzero(above.notes[..., 0]) == 125


def test_the_pedal_of_one_part_does_not_hold_the_notes_of_another():
    notes = [(0.0, 0.1, 60, 90, 0), (0.0, 0.1, 72, 90, 1)]
    out = conditioning(performance_of(notes, [(0.0, 64, 127, 1), (0.5, 64, 0, 1)])).notes[..., 0]
    assert np.count_nonzero(out == 60) == 25
    assert np.count_nonzero(out == 72) == 125


def test_a_pedal_that_goes_down_and_up_at_once_is_up():
    controls = [(0.0, 64, 127, 0), (0.2, 64, 0, 0), (0.2, 64, 127, 0)]
    assert_same(performance_of([(0.0, 0.1, 60, 90, 0), (0.3, 0.1, 60, 90, 0)], controls))
    assert_same(performance_of([(0.0, 0.1, 60, 90, 0), (0.3, 0.1, 60, 90, 0)], controls[:1] + controls[:0:-1]))


def test_of_two_parts_that_move_a_pedal_in_one_frame_the_last_part_counts():
    performance = performance_of(
        [(0.0, 0.5, 60, 90, 0), (0.0, 0.5, 64, 90, 1)], [(0.1001, 67, 20, 1), (0.1002, 67, 90, 0)]
    )
    assert conditioning(performance).pedal[25, 3] == 21 / 128
    assert_same(performance)


def test_a_long_note_beneath_thousands_of_short_ones_costs_no_quadratic_time():
    notes = [(0.0, 60.0, 60, 50, 0)] + [(k * 0.008, 0.001, 60, 80, 1) for k in range(7000)]
    out = conditioning(performance_of(notes, []))
    # Every second frame is inside a short note's onset; the frame between belongs to the long one beneath.
    assert set(np.unique(out.notes[2:13_998, :, 1]).tolist()) == {
        0.0,
        float(np.float32(50 / 127)),
        float(np.float32(80 / 127)),
    }


def test_a_voice_keeps_its_pitch_and_new_pitches_go_around_the_free_ones():
    voices = VoiceAllocator(3)
    voices.step([], [64, 60])
    assert voices.pitches == [60, 64, 0]
    voices.step([60], [62])
    assert voices.pitches == [0, 64, 62]
    voices.step([64], [70, 71])
    assert voices.pitches == [70, 71, 62]
    voices.step([], [50])
    assert voices.pitches == [70, 71, 62]
    assert voices.left_out == [50]
    voices.step([71], [])
    assert voices.pitches == [70, 50, 62]


def test_when_all_voices_were_taken_the_first_freed_one_is_next():
    voices = VoiceAllocator(3)
    voices.step([], [62])
    voices.step([], [60])
    voices.step([], [61])
    assert voices.pitches == [62, 60, 61]
    voices.step([60, 61, 62], [70])
    assert voices.pitches == [70, 0, 0]
