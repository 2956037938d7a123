"""The synthesizers of a live piano against those of a render, and the queue that events wait in."""

import numpy as np
import pytest

from pianofarm_common.errors import BadOption
from pianofarm_common.midi import Performance
from pianofarm_worker.synth.additive import Additive
from pianofarm_worker.synth.events import Control, EventQueue, NoteOff, NoteOn, events_of
from pianofarm_worker.synth.live_partials import LivePartials
from pianofarm_worker.synth.live_room import LiveRoom
from pianofarm_worker.synth.partials import PartialTables


@pytest.fixture(scope="module")
def tables():
    f0_hz = 440 * 2 ** ((np.arange(128)[:, None] - 69 + [0.0, 0.03]) / 12)
    return PartialTables(f0_hz, np.full(128, 4e-4), n_partials=20, hop=64, sample_rate_hz=16_000)


@pytest.mark.parametrize("n_frames", [1, 2, 10])
def test_live_partials_are_those_of_a_render(tables, n_frames):
    random = np.random.default_rng(1)
    n_voices, n_all = 5, 120
    # Voices that wait, hold, fall silent, and change pitch in any frame, several at once.
    pitch = random.integers(0, 128, (n_all // 6, n_voices))[np.sort(random.integers(0, n_all // 6, n_all))]
    pitch[:, 3] = 60
    amplitudes = random.random((n_all, n_voices, 20)).astype(np.float32) * (pitch > 20)[..., None]
    amplitudes[40:50, 2] = 0
    render = Additive(tables, n_voices)
    render.push(np.zeros((n_voices, 1), np.int64), np.zeros((n_voices, 1, 20), np.float32))
    wanted = render.push(pitch.T, np.ascontiguousarray(amplitudes.transpose(1, 0, 2)))
    live = LivePartials(tables, n_voices)
    blocks = [live.push(pitch[at : at + n_frames], amplitudes[at : at + n_frames]) for at in range(0, n_all, n_frames)]

    np.testing.assert_allclose(np.concatenate(blocks), wanted, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize(("block", "n_ir", "n_in"), [(64, 1000, 1), (128, 100, 2), (64, 64, 2), (320, 2001, 2)])
def test_a_live_room_answers_in_the_same_block(block, n_ir, n_in):
    random = np.random.default_rng(2)
    ir = random.standard_normal((n_ir, 2)).astype(np.float32)
    dry = random.standard_normal((20 * block, n_in)).astype(np.float32)
    room = LiveRoom(ir, block)
    wet = np.concatenate([room.push(dry[at : at + block]) for at in range(0, len(dry), block)])
    wanted = np.stack([np.convolve(dry[:, min(c, n_in - 1)], ir[:, c])[: len(dry)] for c in range(2)], axis=1)

    assert wet.dtype == np.float32
    np.testing.assert_allclose(wet, wanted, atol=1e-5 * np.abs(wanted).max())


def test_events_come_in_the_order_of_their_times_and_then_as_they_were_pushed():
    queue = EventQueue()
    late, early, again, now = NoteOn(60, 1, 2.0), NoteOff(60, 1.0), NoteOn(61, 2, 2.0), Control(64, 0)
    for event in (late, early, again):
        queue.push(event, 0.5)
    queue.push(now, 1.5)

    assert [queue.pop() for _ in range(4)] == [(1.0, early), (1.5, now), (2.0, late), (2.0, again)]
    assert queue.next_s() == float("inf")


def test_an_event_of_the_past_is_for_now():
    queue = EventQueue()
    queue.push(NoteOn(60, 1, 0.25), 3.0)

    assert queue.next_s() == 3.0


@pytest.mark.parametrize("event", [None, (60, 90), NoteOn(-1, 5), NoteOn(60, 128), Control(64, 1, float("nan"))])
def test_what_is_no_event_is_refused_with_what_was_received(event):
    with pytest.raises(BadOption) as error:
        EventQueue().push(event, 0.0)
    assert repr(event) in str(error.value)


def test_a_performance_is_played_pedals_first_then_keys_up_then_down():
    performance = Performance(
        onset_s=np.array([0.0, 1.0, 1.0, 1.5]),
        offset_s=np.array([1.0, 2.0, 3.0, 1.7]),
        pitch=np.array([60, 60, 72, 72], np.uint8),
        velocity=np.array([1, 2, 3, 4], np.uint8),
        control_s=np.array([1.0]),
        control_number=np.array([64], np.uint8),
        control_value=np.array([127], np.uint8),
    )

    assert events_of(performance) == [
        NoteOn(60, 1, 0.0),
        Control(64, 127, 1.0),
        NoteOff(60, 1.0),
        NoteOn(60, 2, 1.0),
        NoteOn(72, 3, 1.0),
        NoteOn(72, 4, 1.5),
        NoteOff(60, 2.0),
        NoteOff(72, 3.0),
    ]
