"""The packaged house piano behaves like a piano: pitch, velocity, pedals, any number of notes, the same bytes each time."""

import numpy as np
import pytest

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, WEIGHTS_FILE, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.house.piano import HousePiano
from pianofarm_worker.synth.piano import load

RATE_HZ = 32_000
SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67


def render(piano, performance, **options):
    return piano.render(performance, RenderOptions.parse(dry=True, **options), seed=1).dry


def level_db(sound, start_s, end_s):
    part = sound[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]
    return 10 * np.log10(float((part**2).mean()) + 1e-15)


def partial_hz(sound, near_hz):
    """The strongest frequency within a semitone, to a fraction of a cent for a steady tone."""
    n = 1 << 18
    spectrum = np.abs(np.fft.rfft(sound[:, 0] * np.hanning(len(sound)), n))
    bins = np.arange(len(spectrum)) * RATE_HZ / n
    near = (bins > near_hz / 1.06) & (bins < near_hz * 1.06)
    return bins[near][np.argmax(spectrum[near])]


def test_the_default_model_loads_by_its_architecture_and_is_small():
    info = read_model(PACKAGED_DIR / DEFAULT_MODEL)

    assert isinstance(load(info), HousePiano)
    assert (info.sample_rate_hz, info.channels, info.max_polyphony) == (32_000, 2, None)
    assert (info.path / WEIGHTS_FILE).stat().st_size < 10_000_000


@pytest.mark.parametrize("pitch", [33, 45, 57, 64, 69, 76, 88, 100])
def test_every_key_sounds_at_its_pitch(piano, play, pitch):
    sound = render(piano, play((0, 1.5, pitch, 90)), tail=False)

    # A grand is stretched: a few cents flat in the bass and sharp in the treble.
    expected_hz = 440 * 2 ** ((pitch - 69) / 12)
    octave = 2 if pitch < 40 else 1
    cents = 1200 * np.log2(partial_hz(sound[3200:], octave * expected_hz) / (octave * expected_hz))
    assert abs(cents) < 20 if pitch > 40 and pitch < 90 else abs(cents) < 40


@pytest.mark.parametrize("pitch", [24, 50, 71, 99])
def test_harder_is_louder_at_every_velocity(piano, play, pitch):
    sound = render(piano, play(*((i, i + 0.9, pitch, v) for i, v in enumerate(range(7, 128, 20)))), tail=False)

    levels_db = np.array([level_db(sound, i, i + 0.3) for i in range(7)])
    assert (np.diff(levels_db) > 0.3).all()
    assert levels_db[-1] - levels_db[0] > 10


def test_loudness_runs_evenly_from_key_to_key(piano, play):
    sound = render(piano, play(*((0.4 * i, 0.4 * i + 0.3, 40 + i, 80) for i in range(40))), tail=False)

    levels_db = np.array([level_db(sound, 0.4 * i, 0.4 * i + 0.25) for i in range(40)])
    assert np.abs(np.diff(levels_db)).max() < 4


def test_harder_is_brighter(piano, play):
    sound = render(piano, play((0, 0.9, 60, 20), (1, 1.9, 60, 120)), tail=False)

    def centroid_hz(part):
        power = np.abs(np.fft.rfft(part[:16_000, 0] * np.hanning(16_000))) ** 2
        return (power * np.arange(8001) * 2).sum() / power.sum()

    assert centroid_hz(sound[32_000:]) > 1.2 * centroid_hz(sound)


def test_velocity_and_keys_are_the_networks_doing(piano, play, tmp_path):
    """Zero a network's last layer: the sound must change, because nothing else decides it."""
    from safetensors.numpy import load_file, save_file

    folder = piano.info.path
    expected = render(piano, play((0, 0.5, 60, 60)), tail=False)
    for name in (
        "partial.envelope.2.kernel",
        "partial.gain.2.kernel",
        "noise.envelope.2.kernel",
        "partial.time.2.kernel",
    ):
        weights = load_file(folder / WEIGHTS_FILE)
        weights[name] = np.zeros_like(weights[name])
        for file in folder.glob("*.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        save_file(weights, tmp_path / WEIGHTS_FILE)
        changed = render(HousePiano(read_model(tmp_path)), play((0, 0.5, 60, 60)), tail=False)
        assert np.abs(changed - expected).max() > 0.02 * np.abs(expected).max(), name


def test_an_onset_is_exact_to_the_sample(piano, play):
    early = render(piano, play((0.1, 0.5, 60, 90)), tail=False)
    late = render(piano, play((0.1 + 37 / RATE_HZ, 0.5 + 37 / RATE_HZ, 60, 90)), tail=False)

    first = int(np.argmax(np.abs(early).max(axis=1) > 1e-6))
    assert abs(first - 3200) <= 128  # nothing before, the noise within a frame after
    # The partials move by exactly 37 samples; the noise, drawn by absolute time, is another one.
    difference = late[37:12_000] - early[: 12_000 - 37]
    assert level_db(difference, 0.1, 0.37) < level_db(early, 0.1, 0.37) - 15


def test_a_released_key_is_damped_and_a_pedalled_one_rings(piano, play):
    note = (0, 0.3, 57, 90)
    damped = render(piano, play(note, (2, 2.1, 100, 1)), tail=False)
    pedalled = render(piano, play(note, (2, 2.1, 100, 1), controls=[(0.1, SUSTAIN, 127)]), tail=False)

    assert level_db(damped, 1.0, 1.2) < level_db(damped, 0.1, 0.3) - 50
    assert level_db(pedalled, 1.0, 1.2) > level_db(pedalled, 0.1, 0.3) - 25


def test_half_a_pedal_damps_half_way(piano, play):
    note = (0, 0.3, 57, 90)
    rest, half, full = (
        level_db(render(piano, play(note, (2, 2.1, 100, 1), controls=[(0.1, SUSTAIN, v)]), tail=False), 0.6, 0.8)
        for v in (0, 44, 127)
    )

    assert rest + 6 < half < full - 3


def test_the_pedal_going_up_damps_what_it_held(piano, play):
    sound = render(
        piano, play((0, 0.3, 57, 90), (3, 3.1, 100, 1), controls=[(0.1, SUSTAIN, 127), (1.0, SUSTAIN, 0)]), tail=False
    )

    assert level_db(sound, 0.8, 1.0) > level_db(sound, 0.1, 0.3) - 25
    assert level_db(sound, 1.6, 1.8) < level_db(sound, 0.8, 1.0) - 40


def test_the_sostenuto_pedal_holds_the_keys_that_were_down_and_no_others(piano, play):
    held = render(piano, play((0, 0.5, 57, 90), (3, 3.1, 100, 1), controls=[(0.3, SOSTENUTO, 127)]), tail=False)
    later = render(piano, play((0.4, 0.6, 57, 90), (3, 3.1, 100, 1), controls=[(0.3, SOSTENUTO, 127)]), tail=False)
    released = render(
        piano,
        play((0, 0.5, 57, 90), (3, 3.1, 100, 1), controls=[(0.3, SOSTENUTO, 127), (1.0, SOSTENUTO, 0)]),
        tail=False,
    )

    assert level_db(held, 1.5, 1.7) > level_db(held, 0.1, 0.3) - 30
    assert level_db(later, 1.5, 1.7) < level_db(later, 0.45, 0.6) - 50
    assert level_db(released, 1.6, 1.8) < level_db(released, 0.8, 1.0) - 40


def test_the_soft_pedal_is_softer_and_darker(piano, play):
    loud = render(piano, play((0, 1, 60, 90)), tail=False)
    soft = render(piano, play((0, 1, 60, 90), controls=[(0, SOFT, 127)]), tail=False)

    def band_db(sound, low_hz, high_hz):
        power = np.abs(np.fft.rfft(sound[:16_384, 0])) ** 2
        bins = np.arange(len(power)) * RATE_HZ / 16_384
        return 10 * np.log10(power[(bins >= low_hz) & (bins < high_hz)].sum())

    low = band_db(loud, 200, 600) - band_db(soft, 200, 600)
    high = band_db(loud, 3000, 6000) - band_db(soft, 3000, 6000)
    assert 1 < low < high < 12


def test_the_highest_strings_have_no_dampers(piano, play):
    short = render(piano, play((0, 0.05, 98, 90), (1, 1.1, 30, 1)), tail=False)
    long = render(piano, play((0, 0.9, 98, 90), (1, 1.1, 30, 1)), tail=False)

    # Only the noise of the key itself tells them apart.
    assert level_db(short[:28_000] - long[:28_000], 0.06, 0.8) < level_db(long, 0.06, 0.8) - 25


def test_striking_a_sounding_key_again_makes_no_click(piano, play):
    """The jump from one sample to the next stays below what the notes' own attacks make."""
    sound = render(piano, play((0, 0.5, 45, 100), (0.5, 1.0, 45, 40), controls=[(0, SUSTAIN, 127)]), tail=False)
    attack = np.abs(np.diff(sound[:3200], n=2, axis=0)).max()

    around = np.abs(np.diff(sound[int(0.49 * RATE_HZ) : int(0.55 * RATE_HZ)], n=2, axis=0)).max()
    assert around < attack


def test_a_release_makes_no_click(piano, play):
    held = render(piano, play((0, 1.0, 45, 100)), tail=False)
    released = render(piano, play((0, 0.5, 45, 100), (0.9, 1.0, 100, 1)), tail=False)

    part = slice(int(0.49 * RATE_HZ), int(0.6 * RATE_HZ))
    assert np.abs(np.diff(released[part], n=2, axis=0)).max() < 1.5 * np.abs(np.diff(held[part], n=2, axis=0)).max()


def test_all_88_keys_sound_at_once(piano, play):
    notes = [(0.001 * i, 1.0, 21 + i, 60) for i in range(88)]
    rendering = piano.render(play(*notes), RenderOptions(tail=False, dry=True), seed=1)
    apart = sum(render(piano, play(note), tail=False)[:16_000] for note in notes[::8])

    assert rendering.dropped_notes == 0
    assert rendering.notes == 88
    assert np.isfinite(rendering.wet).all()
    assert level_db(rendering.dry, 0.2, 0.5) > level_db(apart, 0.2, 0.5)


def test_notes_off_the_keyboard_are_dropped_and_counted(piano, play):
    rendering = piano.render(
        play((0, 0.2, 12, 60), (0, 0.2, 60, 60), (0, 0.2, 115, 60)), RenderOptions(tail=False), seed=1
    )

    assert (rendering.notes, rendering.dropped_notes) == (3, 2)


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_noise(piano, play):
    performance = play((0, 0.5, 60, 90), (0.2, 0.7, 64, 50))
    first, again, other = (piano.render(performance, RenderOptions(), seed=seed).wet for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert first.shape == other.shape
    assert 0 < np.abs(first - other).max() < 0.3 * np.abs(first).max()


def test_the_length_is_what_the_options_say(piano, play):
    performance = play((0, 2.0, 60, 90), (1.5, 2.0, 64, 90))

    assert len(render(piano, performance, tail=False)) == 2 * RATE_HZ
    assert len(render(piano, performance, tail=False, duration_s=1.0)) == RATE_HZ
    with_tail = render(piano, performance, duration_s=1.0)
    assert RATE_HZ < len(with_tail) < 4 * RATE_HZ
    assert np.abs(with_tail[-320:]).max() < 1e-4


def test_one_channel_is_the_left_one(piano, play):
    performance = play((0, 0.5, 60, 90))
    left = render(piano, performance, tail=False, channels=1)

    assert left.shape == (RATE_HZ // 2, 1)
    np.testing.assert_allclose(left[:, 0], render(piano, performance, tail=False)[:, 0], atol=1e-6)


def test_the_two_channels_are_two_microphones(piano, play):
    sound = render(piano, play((0, 1, 60, 90)), tail=False)

    left, right = sound.T
    correlation = (left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum())
    assert abs(correlation) < 0.97
    assert abs(10 * np.log10((left**2).sum() / (right**2).sum())) < 12


def test_dense_loud_playing_leaves_headroom(piano, play):
    rng = np.random.default_rng(4)
    notes = [(0.08 * i, 0.08 * i + 0.3, int(rng.integers(30, 90)), int(rng.integers(60, 110))) for i in range(60)]
    sound = render(piano, play(*notes, controls=[(0, SUSTAIN, 127)]))

    assert 0.1 < np.abs(sound).max() < 1.0


def test_progress_is_told_and_may_stop_a_render(piano, play):
    told = []
    piano.render(play((0, 12.0, 60, 90)), RenderOptions(tail=False), seed=1, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 1

    def stop(_part):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        piano.render(play((0, 12.0, 60, 90)), RenderOptions(), seed=1, progress=stop)


def test_a_key_let_go_makes_its_noise_and_less_of_it_under_the_pedal(piano, play, tmp_path):
    from safetensors.numpy import load_file, save_file

    for file in piano.info.path.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = {
        name: w for name, w in load_file(piano.info.path / WEIGHTS_FILE).items() if not name.startswith("release")
    }
    save_file(weights, tmp_path / WEIGHTS_FILE)
    without = HousePiano(read_model(tmp_path))

    def noise(controls):
        performance = play((0, 0.5, 60, 70), (1.4, 1.5, 40, 1), controls=controls)
        return render(piano, performance, tail=False) - render(without, performance, tail=False)

    damped, pedalled = noise([]), noise([(0, SUSTAIN, 127)])
    assert np.abs(damped[:15_800]).max() < 1e-6
    assert -75 < level_db(damped, 0.5, 0.9) < -40
    assert -80 < level_db(pedalled, 0.5, 0.9) < level_db(damped, 0.5, 0.9) - 2


def test_the_room_is_added_to_the_dry_sound_and_outlives_it(piano, play):
    rendering = piano.render(play((0, 0.3, 60, 90)), RenderOptions(dry=True), seed=1)
    room = rendering.wet - rendering.dry

    assert rendering.wet.shape == rendering.dry.shape
    assert -30 < level_db(room, 0, 0.3) - level_db(rendering.dry, 0, 0.3) < -6
    falls_db = [level_db(sound, 0, 0.3) - level_db(sound, 0.7, 0.8) for sound in (room, rendering.dry)]
    assert falls_db[0] < falls_db[1] - 3
    assert np.abs(rendering.wet[-320:]).max() < 1e-3


def test_a_dry_sound_nobody_needs_is_not_kept(piano, play):
    asked, not_asked, half_a_room = (
        piano.render(play((0, 0.3, 60, 90)), RenderOptions(**options), seed=1)
        for options in ({"dry": True}, {}, {"room": 0.5})
    )
    assert not_asked.dry.shape == (0, 2)
    assert not_asked.wet.tobytes() == asked.wet.tobytes()
    assert half_a_room.dry.tobytes() == asked.dry.tobytes()


def test_a_hundred_and_sixty_five_notes_under_the_pedal_all_sound(piano, play):
    # All 88 keys, then 77 of them again before the first have died away: where published models have 16 voices, none is missing.
    keys = [21 + 37 * i % 88 for i in range(88)]
    notes = [(0.012 * i, 0.012 * i + 0.05, pitch, 30 + i % 40) for i, pitch in enumerate(keys + keys[11:])]
    last_s = notes[-1][0]
    notes[1] = (notes[1][0], last_s + 0.5, *notes[1][2:])  # held to the end of the render

    def heard(some):
        return piano.render(play(*some, controls=[(0, SUSTAIN, 127)]), RenderOptions(tail=False, dry=True), seed=1)

    whole, without_two = heard(notes), heard(notes[1:-1])

    assert (whole.notes, whole.dropped_notes) == (165, 0)
    for stem in (whole.wet, whole.dry):
        assert np.isfinite(stem).all()
        assert np.mean(np.abs(stem) > 1) < 1e-4
    assert -40 < level_db(whole.wet, last_s, last_s + 0.4) < -6
    # Two of them alone, in the middle of the others: the first, a bass string that was struck once, still rings when the last begins.
    first_and_last = whole.dry - without_two.dry
    assert level_db(first_and_last, last_s - 0.3, last_s) > -60
    assert level_db(first_and_last, last_s, last_s + 0.1) > level_db(first_and_last, last_s - 0.1, last_s) + 3


def test_a_performance_without_notes_is_silence_of_no_length(piano, play):
    assert render(piano, play(), tail=False).shape == (0, 2)
    assert render(piano, play(), duration_s=0.5).shape == (0, 2)


def test_a_piano_it_does_not_have_is_refused(piano, play):
    with pytest.raises(BadOption, match="piano=1"):
        piano.render(play((0, 1, 60, 60)), RenderOptions(piano=1), seed=1)


def test_damaged_weights_are_refused_with_a_reason(piano, tmp_path):
    for file in piano.info.path.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / WEIGHTS_FILE).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00nonsense and more")

    with pytest.raises(BadModel, match="not a house model"):
        HousePiano(read_model(tmp_path))
