"""A published piano live: the same sound in any blocks, causal, within its delay, for ever. All but the last test need no reference material."""

import dataclasses

import numpy as np
import pytest

from pianofarm_common.errors import BadOption
from pianofarm_worker.synth.events import Control, NoteOff, NoteOn

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def piano(small_model):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    return PublishedPiano(small_model)


def some_events():
    for k in range(24):
        yield NoteOn(40 + 3 * k % 50, 60 + k, 0.1 + 0.09 * k)
        yield NoteOff(40 + 3 * k % 50, 0.3 + 0.1 * k)
    yield Control(64, 127, 0.5)
    yield Control(64, 0, 1.4)


def pull(stream, seconds):
    return np.concatenate([stream.pull() for _ in range(round(seconds * RATE_HZ) // stream.block_samples)])


def test_the_sound_does_not_depend_on_the_blocks(piano):
    heard = {}
    for block_ms in (4, 8, 24):
        stream = piano.stream(block_ms=block_ms, seed=3)
        assert stream.block_samples == block_ms * 16
        for event in some_events():
            stream.push(event)
        heard[block_ms] = pull(stream, 2.4)

    assert heard[4].shape == (38_400, 1)
    for sound in heard.values():
        np.testing.assert_allclose(sound, heard[4], atol=2e-5 * np.abs(heard[4]).max())


def test_the_same_seed_and_events_give_the_same_bytes(piano):
    sounds = []
    for seed in (3, 3, 4):
        stream = piano.stream(seed=seed)
        for event in some_events():
            stream.push(event)
        sounds.append(pull(stream, 0.8))

    assert sounds[0].tobytes() == sounds[1].tobytes()
    assert sounds[0].tobytes() != sounds[2].tobytes()


@pytest.mark.parametrize("block_ms", [4, 8, 24])
def test_a_note_is_heard_in_the_block_pulled_next_and_changes_nothing_before(piano, block_ms):
    without, live = piano.stream(block_ms=block_ms, seed=3), piano.stream(block_ms=block_ms, seed=3)
    np.testing.assert_array_equal(pull(without, 0.2), pull(live, 0.2))
    live.push(NoteOn(60, 110))
    change = np.abs(pull(live, 0.2) - pull(without, 0.2)).max(axis=1)

    # Its attack rises through the delay: its frame is at the sample `delay_samples` after the beginning of the block.
    assert live.delay_samples == 64
    assert live.delay_s == 0.004
    assert change[:64].max() > 1e-3 * change.max()


def test_an_event_changes_nothing_before_its_time(piano):
    one, two = piano.stream(seed=3), piano.stream(seed=3)
    for stream in (one, two):
        stream.push(NoteOn(48, 90, 0.0))
    two.push(NoteOn(60, 90, 0.3101))
    two.push(Control(64, 127, 0.35))
    before, after = pull(one, 0.4), pull(two, 0.4)
    change = np.abs(after - before)[:, 0]
    first = int(np.flatnonzero(change > 1e-6 * change.max())[0])  # the room rounds a block as a whole

    # Frames of 4 ms: the one that holds the event, and the attack up to it, which the delay makes room for.
    frame = int(0.3101 * 250) * 64
    assert frame <= first < frame + 64


def test_what_was_played_before_decides_how_loud_it_is_now_but_silence_does_not(piano):
    """The moments of the performance go on with every sounding frame, and stand still without."""
    stream = piano.stream(seed=3)
    pull(stream, 0.4)
    at_rest = stream._weights_s.copy()
    stream.push(NoteOn(60, 90))
    pull(stream, 0.4)
    playing = stream._weights_s.copy()

    np.testing.assert_array_equal(at_rest, [10.0, 1.0])
    np.testing.assert_allclose(playing, [10.4, 1.4])


def test_given_the_moments_of_the_whole_a_stream_has_the_controls_of_a_render(piano):
    from pianofarm_worker.synth.published.moments import Moments
    from pianofarm_worker.synth.published.release import extend_pitch

    random = np.random.default_rng(1)
    config, live = piano.config, piano._instrument(None).live
    notes = np.zeros((40, config.n_voices, 2), np.float32)
    notes[5:, :4, 0] = random.integers(40, 80, 4)
    notes[5:7, :4, 1] = 0.7
    pitch, pedal = extend_pitch(notes[..., 0], 0.2, 250), np.zeros((40, 4), np.float32)

    context_net, voice_net = live.network._context, live.network._monophonic
    moments = {name: Moments(piano._weights, name) for name in ("context", "mono")}
    q, sums, _ = context_net.run(notes, pedal, context_net.initial_state())
    moments["context"].add(sums)
    factor, offset = moments["context"].affine()
    raw, _ = voice_net.run(notes, pitch, q * factor[0] + offset[0], voice_net.initial_state())
    moments["mono"].add(raw.sums)
    amplitudes, power = live.network._controls.run(raw.q, raw.step, pitch, *moments["mono"].affine())

    means = [
        part.mean(axis=0, dtype=np.float64) / m.n_channels
        for part, m in ((sums, moments["context"]), (raw.sums, moments["mono"]))
    ]
    n_networks = config.context.n_gru + config.n_voices * config.monophonic.n_gru
    state = np.concatenate((np.zeros(n_networks), means[0].ravel(), means[1].ravel())).astype(np.float32)
    for first in range(0, 40, 4):
        rows = slice(first, first + 4)
        got, got_power, state = live.network.run(
            notes[rows], pitch[rows], pedal[rows], np.zeros((4, 2), np.float32), state
        )
        np.testing.assert_allclose(got.transpose(1, 0, 2), amplitudes[:, rows], atol=1e-3 * amplitudes.max())
        np.testing.assert_allclose(got_power, power[rows], atol=1e-3 * power.max())


def test_a_key_that_never_goes_up_and_silence_for_ever_stay_finite_and_bounded(piano):
    stream = piano.stream(block_ms=24, seed=3)
    for pitch in range(30, 60):
        stream.push(NoteOn(pitch, 127))
    sound = pull(stream, 30.0)

    assert np.isfinite(sound).all()
    assert stream.dropped_notes == 14
    assert stream.now_s == pytest.approx(len(sound) / RATE_HZ)
    stream.push(Control(123, 0))
    pull(stream, 2.0)
    assert stream._notes._notes == {}
    assert not stream._notes._held_pitch.any()


def test_blocks_of_other_lengths_and_pianos_that_are_not_there_are_refused(piano):
    with pytest.raises(BadOption, match="block_ms=10"):
        piano.stream(block_ms=10)
    with pytest.raises(BadOption, match=r"block_ms=8\.0"):
        piano.stream(block_ms=8.0)
    with pytest.raises(BadOption, match="piano=2"):
        piano.stream(piano=2)
    for seed in (-1, 1 << 64, 1.5):
        with pytest.raises(BadOption, match=f"seed={seed}"):
            piano.stream(seed=seed)


def test_a_model_without_moments_plays_too(piano, tmp_path):
    from pianofarm_worker.synth.published.checkpoints import write_model
    from pianofarm_worker.synth.published.configs import Context
    from pianofarm_worker.synth.published.piano import PublishedPiano
    from pianofarm_worker.synth.published.variables import variables

    config = dataclasses.replace(
        piano.config,
        context=Context(kind="film", n_dense=8, n_gru=8, n_out=8, pitch_divisor=128.0),
        monophonic=dataclasses.replace(piano.config.monophonic, normalize=False),
    )
    random = np.random.default_rng(7)
    weights = {v.name: 0.3 * random.standard_normal(v.shape).astype(np.float32) for v in variables(config)}
    weights |= {name: w for name, w in piano._weights.items() if not name.startswith(("context/", "mono/"))}
    stream = PublishedPiano(write_model(tmp_path / "film", "film", config, weights)).stream(seed=1)
    stream.push(NoteOn(60, 90))
    sound = pull(stream, 0.4)

    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0


def test_as_much_of_the_room_is_played_live_as_was_asked_for(piano):
    heard = {}
    for room in (0.0, 0.5, 1.0):
        stream = piano.stream(seed=3, room=room)
        for event in some_events():
            stream.push(event)
        heard[room] = pull(stream, 0.8)
    whole = heard[1.0] - heard[0.0]

    assert np.abs(whole).max() > 1e-3 * np.abs(heard[1.0]).max()
    np.testing.assert_allclose(heard[0.5] - heard[0.0], 0.5 * whole, atol=1e-5 * np.abs(heard[1.0]).max())


def test_dafx22_live_is_about_as_loud_as_its_render(shared, imported):
    """A render knows the moments of the whole performance, a stream those of what was played; docs/streaming.md measures it."""
    from bench.published import performance_of
    from bench.streaming import louder_by_db, played, rendered

    from pianofarm_worker.synth.published.piano import PublishedPiano

    piano = PublishedPiano(imported("dafx22"), batch_size=1)
    performance = performance_of((shared / "parity" / "chpn-p3.mid").read_bytes())
    live, whole = played(piano, performance, 6.0), rendered(piano, performance, seconds=12.0)
    louder_db, _ = louder_by_db(live, whole, RATE_HZ)
    assert len(louder_db) > 40
    assert abs(louder_db.mean()) < 3.0
    assert np.sqrt((louder_db**2).mean()) < 4.0
