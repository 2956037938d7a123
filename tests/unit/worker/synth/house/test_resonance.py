"""What an ear expects of a piano beyond its notes, measured: knock, two decays and beats, other strings under the pedal, pedal noise."""

import numpy as np
import pytest

from pianofarm_common.renders import RenderOptions

RATE_HZ = 32_000
SUSTAIN, SOFT = 64, 67


def render(piano, performance, seed=1, **options):
    return piano.render(performance, RenderOptions.parse(dry=True, tail=False, **options), seed=seed).dry


def level_db(sound, start_s, end_s):
    part = sound[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]
    return 10 * np.log10(float((part**2).mean()) + 1e-15)


def band(sound, low_hz, high_hz, start_s, end_s):
    """A part of the left channel between two frequencies, faded in and out."""
    part = sound[int(start_s * RATE_HZ) : int(end_s * RATE_HZ), 0]
    spectrum = np.fft.rfft(part * np.hanning(len(part)))
    hz = np.fft.rfftfreq(len(part), 1 / RATE_HZ)
    return np.fft.irfft(spectrum * ((hz >= low_hz) & (hz < high_hz)), len(part))


def band_db(sound, low_hz, high_hz, start_s, end_s):
    return 10 * np.log10(float((band(sound, low_hz, high_hz, start_s, end_s) ** 2).mean()) + 1e-15)


@pytest.fixture(scope="module")
def held(piano, play):
    """A held C4, with the sustain pedal up, down all the time, and down for the first second."""
    note, end = (0, 4.0, 60, 90), (4.4, 4.5, 100, 1)
    pedals = {"up": [], "down": [(0, SUSTAIN, 127)], "at first": [(0, SUSTAIN, 127), (1.0, SUSTAIN, 0)]}
    return {name: render(piano, play(note, end, controls=controls)) for name, controls in pedals.items()}


def test_the_knock_of_a_stroke_is_the_same_each_time(piano, play):
    """Below the fundamental of C7 there is nothing but knock: what two seeds, two draws of noise, have in common."""
    first, second = (band(render(piano, play((0.05, 0.4, 96, 100)), seed=seed), 80, 900, 0.0, 0.2) for seed in (1, 2))

    assert (first * second).sum() > 0.85 * np.sqrt((first**2).sum() * (second**2).sum())


def test_all_keys_knock_on_the_same_soundboard(piano, play):
    """The strongest resonances below 900 Hz of two keys a third apart, which share no string, lie at the same frequencies."""

    def resonances_hz(pitch):
        # The knock is the same in every render; the noise, which another seed changes, goes away in their mean.
        strokes = [
            piano.render(play((0, 0.4, pitch, 110)), RenderOptions(dry=True), seed=seed).dry[:6400, 0]
            for seed in range(8)
        ]
        sound = np.mean(strokes, axis=0) * np.hanning(6400)
        power = np.abs(np.fft.rfft(sound, 1 << 16)) ** 2
        hz = np.fft.rfftfreq(1 << 16, 1 / RATE_HZ)
        power[(hz < 80) | (hz > 900)] = 0
        found = []
        for _ in range(6):
            found.append(hz[power.argmax()])
            power[np.abs(hz - found[-1]) < 25] = 0
        return np.array(found)

    first, second = resonances_hz(96), resonances_hz(99)
    assert (np.abs(first[:, None] - second).min(axis=1) < 10).sum() >= 4


def test_a_note_dies_fast_at_first_and_slowly_later(held):
    early_db_per_s = (level_db(held["up"], 0.05, 0.15) - level_db(held["up"], 0.45, 0.55)) / 0.4
    late_db_per_s = (level_db(held["up"], 2.0, 2.4) - level_db(held["up"], 3.4, 3.8)) / 1.4

    assert early_db_per_s > 1.3 * late_db_per_s > 3


def test_partials_beat(piano, play):
    """The coupled strings of a note are not quite in tune: some partial's level swings about its decay."""
    sound = render(piano, play((0, 4.0, 57, 90)))
    swings_db = []
    for partial in range(1, 7):
        edges_hz = 220 * partial * 0.97, 220 * partial * 1.03
        levels_db = np.array([band_db(sound, *edges_hz, at, at + 0.2) for at in np.arange(0.3, 3.6, 0.1)])
        line = np.polyval(np.polyfit(np.arange(len(levels_db)), levels_db, 2), np.arange(len(levels_db)))
        swings_db.append(np.abs(levels_db - line).max())

    assert max(swings_db) > 2


def test_under_the_pedal_other_strings_ring_with_a_note(held):
    """The key stays down, so that its own damper plays no part."""
    assert abs(level_db(held["down"], 0, 0.1) - level_db(held["up"], 0, 0.1)) < 0.5
    assert 0.7 < level_db(held["down"], 2.0, 4.0) - level_db(held["up"], 2.0, 4.0) < 6


def test_the_pedal_going_up_silences_the_other_strings(held):
    assert abs(level_db(held["at first"], 2.0, 4.0) - level_db(held["up"], 2.0, 4.0)) < 0.2
    assert level_db(held["at first"] - held["up"], 0.5, 1.0) > level_db(held["at first"] - held["up"], 2.0, 2.5) + 15


def test_half_a_pedal_lets_the_other_strings_ring_half(piano, play, held):
    half = render(piano, play((0, 4.0, 60, 90), (4.4, 4.5, 100, 1), controls=[(0, SUSTAIN, 44)]))

    full_change, half_change = (level_db(sound - held["up"], 0.8, 1.2) for sound in (held["down"], half))
    assert half_change < full_change - 1
    assert half_change > level_db(held["up"], 0.8, 1.2) - 40


def test_a_wash_of_all_strings_follows_a_stroke_under_the_pedal(held):
    """Half way between partials 2 and 3 of C4 no string of the note sounds."""
    up_db, down_db = (band_db(held[name], 600, 700, 0.6, 1.4) for name in ("up", "down"))

    assert up_db + 6 < down_db < level_db(held["down"], 0.6, 1.4) - 25


def test_the_pedal_is_heard_itself_going_down_and_going_up(piano, play):
    notes = (0, 0.3, 60, 60), (3.5, 3.6, 60, 60)
    still = render(piano, play(*notes))
    moved = render(piano, play(*notes, controls=[(2.0, SUSTAIN, 127), (2.8, SUSTAIN, 0)]))

    noise = moved - still
    assert level_db(noise, 1.5, 1.98) < -110
    for start_s in (2.0, 2.8):
        assert -85 < level_db(noise, start_s, start_s + 0.2) < -50
    assert level_db(noise, 2.8, 3.0) > level_db(noise, 2.0, 2.2)


def test_the_soft_pedal_softens_the_knock_too(piano, play):
    loud_db, soft_db = (
        band_db(render(piano, play((0.05, 0.4, 96, 100), controls=controls)), 80, 900, 0.0, 0.2)
        for controls in ([], [(0, SOFT, 127)])
    )

    assert loud_db - 4 < soft_db < loud_db - 1


def test_no_velocity_is_softer_than_the_one_below_it_on_any_key(piano):
    for pitch in range(21, 109):
        assert (np.diff(piano._tables[pitch].lasts.peak_db) >= 0).all(), pitch
        assert (np.diff(piano._tables[pitch].knock_gain, axis=0) >= 0).all(), pitch


def test_the_room_is_never_quite_silent_while_it_is_played_in(piano, play):
    """One room tone however many notes sound: below a step of 16 bits above 200 Hz, and no louder for a chord."""
    chord = render(piano, play(*((0, 0.2, pitch, 90) for pitch in (60, 64, 67, 72)), (4.0, 4.1, 60, 1)))
    note = render(piano, play((0, 0.2, 60, 90), (4.0, 4.1, 60, 1)))

    tone_db = band_db(note, 200, 16_000, 3.0, 3.9)
    assert -110 < tone_db < -85
    assert abs(band_db(chord, 200, 16_000, 3.0, 3.9) - tone_db) < 1
