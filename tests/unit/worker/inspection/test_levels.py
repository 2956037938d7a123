"""The level of each note against tones of known level, and the notes that have no voice."""

import dataclasses

import numpy as np
import pytest

from pianofarm_common.midi import Performance
from pianofarm_common.models import DEFAULT_MODEL, find_model
from pianofarm_worker.inspection.levels import dropped_notes, note_levels_dbfs, rank_correlation

RATE = 16_000


def performance(*notes):
    """Notes as (onset_s, offset_s, pitch, velocity), by onset."""
    columns = [np.array(column) for column in zip(*notes, strict=True)]
    empty = np.zeros(0, np.uint8)
    return Performance(
        columns[0].astype(float),
        columns[1].astype(float),
        columns[2].astype(np.uint8),
        columns[3].astype(np.uint8),
        np.zeros(0),
        empty,
        empty,
    )


def tones(length_s, *parts):
    """[n_samples, 1]: sines as (onset_s, hz, level_dbfs)."""
    t = np.arange(round(length_s * RATE)) / RATE
    sound = sum(
        (t >= onset_s) * 10 ** (level / 20) * np.sin(2 * np.pi * hz * (t - onset_s)) for onset_s, hz, level in parts
    )
    return np.asarray(sound, np.float32)[:, None]


def test_the_level_of_a_note_is_that_of_its_strongest_partial():
    played = performance((0.0, 0.5, 69, 40), (1.0, 1.5, 69, 90))
    # Stiffness: the second partial of the second note lies 1 % high.
    heard = tones(2.0, (0.0, 440.0, -30.0), (1.0, 440.0, -25.0), (1.0, 888.8, -12.0))

    assert note_levels_dbfs(heard, RATE, played) == pytest.approx([-30.0, -12.0], abs=0.5)


def test_a_note_is_measured_where_others_do_not_hide_it():
    octave = performance((0.0, 1.0, 57, 64), (0.0, 1.0, 69, 64))
    heard = tones(1.0, (0.0, 220.0, -20.0), (0.0, 440.0, -10.0))

    lower, upper = note_levels_dbfs(heard, RATE, octave)

    assert lower == pytest.approx(-20.0, abs=0.5), "its fundamental is free; its second partial may be the other's"
    assert np.isnan(upper), "every partial is one of the lower note too"


def test_a_note_that_is_cut_off_has_no_level():
    assert np.isnan(note_levels_dbfs(tones(1.0, (0.9, 440.0, -10.0)), RATE, performance((0.9, 1.4, 69, 64)))).all()


def test_notes_beyond_the_keyboard_are_dropped_by_every_model(tmp_path):
    model = find_model(DEFAULT_MODEL, tmp_path)

    assert list(
        dropped_notes(performance((0, 1, 20, 64), (0, 1, 21, 64), (0, 1, 108, 64), (0, 1, 109, 64)), model)
    ) == [
        True,
        False,
        False,
        True,
    ]


def test_the_lowest_notes_past_the_voices_are_dropped_while_their_keys_are_down(tmp_path):
    two_voices = dataclasses.replace(find_model(DEFAULT_MODEL, tmp_path), max_polyphony=2)
    played = performance((0.0, 1.0, 40, 64), (0.5, 1.0, 50, 64), (0.8, 1.0, 60, 64), (2.0, 3.0, 40, 64))

    assert list(dropped_notes(played, two_voices)) == [True, False, False, False]


def test_rank_correlation_knows_order_and_nothing_else():
    velocity = np.array([10, 20, 30, 40], np.uint8)

    assert rank_correlation(velocity, np.array([-60.0, -20.0, np.nan, -19.0])) == pytest.approx(1.0)
    assert rank_correlation(velocity, np.array([-10.0, -20.0, -30.0, -40.0])) == pytest.approx(-1.0)
    assert rank_correlation(velocity, np.full(4, np.nan)) is None
