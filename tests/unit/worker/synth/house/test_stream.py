"""The house piano live plays what a render of the same keys and pedals holds, in any blocks; nothing is heard late, nothing hangs."""

import numpy as np
import pytest

from pianofarm_common.errors import BadOption
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.events import Control, NoteOff, NoteOn
from pianofarm_worker.synth.house.live_pedals import LivePedals

RATE_HZ = 32_000
SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67

NOTES = (
    (0.013, 0.5, 60, 90),
    (0.2, 0.7, 36, 50),
    (0.4, 0.41, 95, 127),
    (0.55, 1.2, 60, 80),
    (0.8, 0.9, 64, 30),
    (1.0, 1.1, 100, 60),
    (1.1, 3.2, 43, 70),
)
CONTROLS = (
    (0.3, SUSTAIN, 100),
    (0.35, SOFT, 90),
    (0.7, SOSTENUTO, 127),
    (0.75, SUSTAIN, 40),
    (0.95, SUSTAIN, 0),
    (1.5, SOSTENUTO, 0),
)


def events():
    """As a pianist moves: pedals first, then keys up, then keys down."""
    moves = [(time, 0, Control(number, value, time)) for time, number, value in CONTROLS]
    for onset, offset, pitch, velocity in NOTES:
        moves += [(onset, 2, NoteOn(pitch, velocity, onset)), (offset, 1, NoteOff(pitch, offset))]
    return [event for *_, event in sorted(moves, key=lambda move: move[:2])]


def pull(stream, seconds):
    return np.concatenate([stream.pull() for _ in range(int(seconds * RATE_HZ) // stream.block_samples)])


@pytest.mark.parametrize("block_ms", [4, 8, 40])
def test_what_is_played_live_is_what_is_rendered_whatever_the_blocks(piano, play, block_ms):
    whole = piano.render(play(*NOTES, controls=CONTROLS), RenderOptions(), seed=3).wet
    stream = piano.stream(block_ms=block_ms, seed=3)
    for event in events():
        stream.push(event)
    live = pull(stream, 3.2)

    assert stream.n_channels == 2
    # Live, notes keep frames of their own, rendered they come to share them: straight lines through other points of the same
    # envelopes, 43 dB down at the worst; and partials end up to half a second apart, at -80 dB.
    difference = live - whole[: len(live)]
    assert np.abs(difference).max() < 8e-3 * np.abs(whole).max()
    assert (difference**2).mean() < 10**-5.2 * (whole**2).mean()


def test_an_event_changes_nothing_before_it_and_is_heard_at_its_sample(piano):
    one, two = piano.stream(seed=3), piano.stream(seed=3)
    at_s = 0.5 + 77 / RATE_HZ
    for stream in (one, two):
        stream.push(NoteOn(48, 90, 0.0))
    two.push(NoteOn(60, 90, at_s))
    before, after = pull(one, 1.0), pull(two, 1.0)
    first = int(np.flatnonzero(np.abs(after - before).max(axis=1))[0])

    # The noise of the hammer has frames of 4 ms and begins at the nearest one.
    assert two.delay_s == 0
    assert -64 <= first - round(at_s * RATE_HZ) < 64
    partials = np.abs(after - before)[round(at_s * RATE_HZ) :].max(axis=1)
    assert partials[: int(0.005 * RATE_HZ)].max() > 1e-3


def test_a_note_now_begins_in_the_block_pulled_next(piano):
    stream = piano.stream(seed=3)
    silence = pull(stream, 0.1)
    stream.push(NoteOn(60, 100))

    assert not silence.any()
    assert np.abs(stream.pull()).max() > 1e-3


def test_keys_left_down_die_away_and_are_forgotten(piano):
    stream = piano.stream(block_ms=40, seed=3)
    for pitch in range(84, 96):
        stream.push(NoteOn(pitch, 80))
    pull(stream, 0.2)
    assert len(stream._voices) == 12
    pull(stream, 32)

    assert stream._voices == []
    assert stream._pedals.strings == []
    assert stream._noise._power.shape[1] < 2 * 3840


@pytest.mark.parametrize("number", [123, 120])
def test_all_notes_off_lets_every_damper_fall(piano, number):
    held, ended = piano.stream(seed=3), piano.stream(seed=3)
    for stream in (held, ended):
        for pitch in (48, 60, 64):
            stream.push(NoteOn(pitch, 90, 0.0))
    ended.push(Control(number, 0, 0.5))
    held, ended = pull(held, 3.0), pull(ended, 3.0)

    np.testing.assert_array_equal(held[: RATE_HZ // 2 - 64], ended[: RATE_HZ // 2 - 64])
    assert np.abs(ended[-RATE_HZ // 4 :]).max() < 0.02 * np.abs(held[-RATE_HZ // 4 :]).max()


def test_what_no_piano_knows_is_ignored_and_what_midi_has_no_room_for_refused(piano):
    stream = piano.stream(seed=3)
    stream.push(NoteOff(60))
    stream.push(Control(1, 99))
    stream.push(NoteOn(60, 0))
    stream.push(NoteOn(10, 90))

    assert not pull(stream, 0.1).any()
    assert stream.dropped_notes == 1
    for bad in (NoteOn(128, 90), NoteOn(60, -1), NoteOn(60.5, 90), Control(64, 200), NoteOff(60, -1.0), "C4"):
        with pytest.raises(BadOption):
            stream.push(bad)


@pytest.mark.parametrize("block_ms", [0, 2, 6, 44, 8.5])
def test_blocks_of_other_lengths_are_refused(piano, block_ms):
    with pytest.raises(BadOption, match="a multiple of 4"):
        piano.stream(block_ms=block_ms)


def test_a_piano_the_model_has_not_is_refused(piano):
    with pytest.raises(BadOption, match="piano=1"):
        piano.stream(piano=1)


def test_the_pedal_remembers_a_second_only():
    pedals = LivePedals()
    for k in range(10_000):
        pedals.move(SUSTAIN, 127 * (k % 2), k * 0.01)

    assert len(pedals._sustain) < 110


def test_as_much_of_the_room_is_played_live_as_was_asked_for(piano):
    heard = {}
    for room in (0.0, 0.5, 1.0, 2.0):
        stream = piano.stream(seed=3, room=room)
        stream.push(NoteOn(60, 90, 0.0))
        heard[room] = pull(stream, 0.4)
    whole = heard[1.0] - heard[0.0]

    assert np.abs(whole).max() > 1e-3
    for room in (0.5, 2.0):
        np.testing.assert_allclose(heard[room] - heard[0.0], room * whole, atol=1e-6)
    with pytest.raises(BadOption, match=r"room=2\.5: must be 0"):
        piano.stream(room=2.5)
