"""The metrics of the evaluation on sounds whose figures are known beforehand; nothing heavy is loaded."""

import json
import sys

import numpy as np
import pytest

from pianofarm_common.errors import NotFound, QualityGateFailed, ServiceUnavailable
from pianofarm_common.midi import Performance
from pianofarm_training.distances import multi_resolution_distance
from pianofarm_training.evaluation import figures, listening, materials, music, notes, page, response, transcription
from pianofarm_training.evaluation.musts import of_quality, of_speed
from pianofarm_training.evaluation.picture import log_spectrogram_db

RATE_HZ = 32_000


def decaying(hz: float, t60_s: float, seconds: float = 4.0, gain_db: float = 0.0, late_s: float = 0.0) -> np.ndarray:
    """A sine that decays by 60 dB in `t60_s`, both channels alike, after `late_s` of silence."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = 10 ** (gain_db / 20) * np.sin(2 * np.pi * hz * time_s) * 10 ** (-3 * time_s / t60_s)
    sound = np.concatenate([np.zeros(round(late_s * RATE_HZ)), sound])
    return np.stack([sound, sound], axis=1).astype(np.float32)


def stiff_string(pitch: int, cents: float) -> np.ndarray:
    """Twelve partials of a string with the inharmonicity of its key, out of tune by `cents`."""
    from pianofarm_training.tuning import Tuning, equal_tempered_hz, typical_inharmonicity

    law = Tuning(equal_tempered_hz(pitch) * 2 ** (cents / 1200), typical_inharmonicity(pitch))
    partials = [decaying(hz, 6.0, gain_db=-3.0 * k) for k, hz in enumerate(law.partials_hz(12))]
    return np.asarray(np.sum(partials, axis=0) * 0.1, np.float32)


def performance(rows: list[tuple[float, float, int, int]], pedals: list[tuple[float, int]] = ()) -> Performance:
    return Performance(
        onset_s=np.array([row[0] for row in rows]),
        offset_s=np.array([row[1] for row in rows]),
        pitch=np.array([row[2] for row in rows], np.uint8),
        velocity=np.array([row[3] for row in rows], np.uint8),
        control_s=np.array([time_s for time_s, _ in pedals]),
        control_number=np.full(len(pedals), 64, np.uint8),
        control_value=np.array([value for _, value in pedals], np.uint8),
    )


def test_a_note_that_comes_late_is_late_by_as_much():
    on_time = notes.onset_delay_s(decaying(440, 2.0, late_s=0.5), 0.5, RATE_HZ)
    late = notes.onset_delay_s(decaying(440, 2.0, late_s=0.503), 0.5, RATE_HZ)

    assert on_time == pytest.approx(0, abs=0.001)
    assert late - on_time == pytest.approx(0.003, abs=1 / RATE_HZ)


def test_the_level_of_a_sine_is_3_db_below_its_peak():
    assert notes.level_db(decaying(440, 1e9), RATE_HZ) == pytest.approx(-3.01, abs=0.01)


def test_notes_that_differ_by_one_gain_differ_in_nothing_else():
    theirs = [decaying(hz, 3.0) for hz in (220, 440, 880)]
    found = notes.compare([note * np.float32(0.5) for note in theirs], theirs, RATE_HZ)

    assert found.gain_db == pytest.approx(6.02, abs=0.01)
    assert found.level_db == pytest.approx(0, abs=1e-4)
    assert found.envelope_db == pytest.approx((0, 0, 0), abs=1e-3)
    assert found.decay_part == pytest.approx(0, abs=1e-6)
    assert found.lsd_db == pytest.approx(0, abs=1e-3)


def test_level_errors_of_plus_and_minus_1_db_are_1_db():
    theirs = [decaying(440, 3.0), decaying(440, 3.0)]
    found = notes.compare([theirs[0] * np.float32(1.122), theirs[1] / np.float32(1.122)], theirs, RATE_HZ)

    assert found.level_db == pytest.approx(1.0, abs=0.01)
    assert found.envelope_db == pytest.approx((1, 1, 1), abs=0.05)


def test_an_envelope_error_is_found_in_its_own_range_of_time():
    theirs = decaying(1000, 1e9)
    ours = theirs.copy()
    ours[RATE_HZ // 2 + 1024 :] *= np.float32(10 ** (3 / 20))
    sums = notes.envelope_squares(*(notes.band_levels_db(note, RATE_HZ) for note in (ours, theirs)), RATE_HZ)
    early, middle, late = np.sqrt(sums[0] / sums[1])

    assert early == 0
    assert middle < 0.1
    assert late == pytest.approx(3.0, abs=0.1)


def test_bands_below_what_is_heard_do_not_count():
    theirs = decaying(1000, 1e9)
    ours = theirs + decaying(8000, 1e9, gain_db=-62.0)
    sums = notes.envelope_squares(*(notes.band_levels_db(note, RATE_HZ) for note in (ours, theirs)), RATE_HZ)

    assert np.sqrt(sums[0] / sums[1])[2] < 0.1


def test_t20_is_a_third_of_t60_and_its_error_a_ratio():
    assert notes.decay_s(decaying(440, 1.5), RATE_HZ) == pytest.approx(0.5, rel=0.02)
    found = notes.compare([decaying(440, 1.65)], [decaying(440, 1.5)], RATE_HZ)

    assert found.decay_part == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("pitch", [45, 69])
def test_a_key_out_of_tune_is_so_by_its_cents(pitch):
    tuned, sharp = (notes.cents([stiff_string(pitch, cents)], pitch, RATE_HZ) for cents in (0.0, 5.0))

    assert sharp - tuned == pytest.approx(5.0, abs=0.3)


def test_a_smooth_stretch_is_even_and_one_key_beside_it_is_not():
    pitches = list(range(21, 109, 3))
    stretch = [20 * ((pitch - 64) / 44) ** 3 for pitch in pitches]
    off = [cents + 10 * (pitch == 60) for cents, pitch in zip(stretch, pitches, strict=True)]

    assert notes.unevenness_cents(pitches, stretch) == pytest.approx(0, abs=1e-6)
    assert notes.unevenness_cents(pitches, off) == pytest.approx(10 / np.sqrt(30), rel=0.1)


def test_levels_against_a_reference_lose_their_mean_only():
    theirs_db = np.linspace(-40, -15, 16)[None] + np.zeros((88, 1))
    ours_db = theirs_db + 7.0
    ours_db[:, ::2] += 1.0

    assert response.level_errors_db(theirs_db + 7.0, theirs_db) == pytest.approx((0, 0))
    assert response.level_errors_db(ours_db, theirs_db) == pytest.approx((0.5, 0.5))


def test_evenness_counts_falling_steps_and_keys_beside_their_neighbours():
    levels_db = np.linspace(-40, -15, 16)[None] + np.zeros((88, 1))
    even = response.evenness(levels_db)
    levels_db[10, 5] -= 3.0
    odd = response.evenness(levels_db)

    assert (even.falling_part, even.range_db) == (0, 25)
    assert even.unevenness_db == pytest.approx(0, abs=1e-9)
    assert odd.falling_part == pytest.approx(1 / (88 * 15))
    # The key itself is off by 3 dB, both its neighbours' neighbours' mean by 1.5.
    assert odd.unevenness_db == pytest.approx(np.sqrt((9 + 2 * 2.25) / (86 * 16)))


def test_passages_are_brought_to_one_loudness():
    theirs = decaying(440, 1e9, 2.0)
    ours = music.matched(theirs * np.float32(0.1), theirs, RATE_HZ)

    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    with pytest.raises(QualityGateFailed, match="nothing to hear"):
        music.matched(np.zeros_like(theirs), theirs, RATE_HZ)


def test_the_level_after_an_onset_is_that_of_its_50_ms():
    theirs = decaying(440, 1e9, 2.0)
    ours = theirs.copy()
    ours[RATE_HZ:] *= 2
    onsets_s = np.array([0.2, 1.0, 1.0, 1.99])

    np.testing.assert_allclose(music.onset_errors_db(ours, theirs, onsets_s, RATE_HZ), [0, 6.02], atol=0.01)
    found = music.compare(ours, theirs, onsets_s, RATE_HZ)
    assert found.onset_db == pytest.approx(3.01, abs=0.01)


def test_the_multi_resolution_distance_of_a_gain_is_the_gain_in_nepers():
    noise = np.random.default_rng(3).normal(size=RATE_HZ).astype(np.float32)

    assert multi_resolution_distance(noise, noise) == 0
    assert multi_resolution_distance(0.5 * noise, noise) == pytest.approx(np.log(2), abs=0.01)


def test_notes_found_missed_and_made_up_are_counted():
    played = np.array([[0.0, 1.0, 60, 40], [1.0, 2.0, 62, 80], [2.0, 3.0, 64, 120], [3.0, 4.0, 65, 90]])
    heard = np.array(
        [[0.04, 1.1, 60, 50], [1.06, 2.0, 62, 90], [2.0, 2.5, 64, 130], [3.0, 4.0, 65, 100], [5, 6, 70, 1]]
    )
    found = transcription.score(heard, played)

    assert found.onset_f1 == pytest.approx(2 * 3 / 9)  # one is 60 ms late, one was never played
    assert found.offset_f1 == pytest.approx(2 * 2 / 9)  # and one ends half a second early
    assert found.velocity_correlation == pytest.approx(1.0)
    assert found.n_played == 4


def test_repeated_notes_are_matched_so_that_most_are_found():
    """The first heard note is near both played ones; taking the nearest first would leave the second without."""
    played = np.array([[0.00, 0.03, 60, 64], [0.06, 0.2, 60, 64]])
    heard = np.array([[0.04, 0.05, 60, 64], [-0.04, 0.0, 60, 64]])

    assert transcription.score(heard, played).onset_f1 == 1.0


def test_a_silent_transcription_scores_nothing():
    played = np.array([[0.0, 1.0, 60, 40]])
    found = transcription.score(np.zeros((0, 4)), played)

    assert (found.onset_f1, found.offset_f1) == (0, 0)
    assert np.isnan(found.velocity_correlation)


def test_notes_sound_until_the_pedal_comes_up_or_the_key_is_struck_again():
    played = performance(
        [(0.0, 0.5, 60, 64), (0.2, 0.4, 62, 64), (1.0, 1.2, 60, 64), (2.5, 3.0, 64, 64)], [(0.3, 127), (2.0, 0)]
    )

    np.testing.assert_allclose(transcription.played_notes(played)[:, 1], [1.0, 2.0, 2.0, 3.0])


def test_a_cut_begins_with_the_pedals_as_they_were():
    whole = performance([(0.0, 9.0, 50, 64), (2.0, 4.0, 60, 64), (9.0, 9.5, 62, 64)], [(0.5, 127), (3.0, 0)])
    part = materials.cut(whole, 1.0, 4.0)

    np.testing.assert_allclose(part.onset_s, [1.0 + materials.LEAD_S])
    np.testing.assert_allclose(part.offset_s, [3.0 + materials.LEAD_S])
    np.testing.assert_allclose(part.control_s, [0.0, 2.0 + materials.LEAD_S])
    assert list(part.control_value) == [127, 0]


def test_the_keyboard_is_every_key_at_every_layer():
    played = materials.keyboard()

    assert len(played) == 88 * 16
    assert {materials.velocity_of(layer) for layer in range(16)} == set(played.performance.velocity)
    assert (np.diff(played.performance.onset_s) > materials.SHORT_HELD_S).all()


def test_passages_are_five_with_or_without_the_real_pieces(tmp_path):
    generated = materials.passages(tmp_path)

    assert len(generated) == 5
    assert all(passage.name.startswith("generated") for passage in generated)


def made_up_figures(onset_f1: float) -> figures.Figures:
    passage = {
        "name": "a",
        "notes": 100,
        "lsd_db": 5.0,
        "multi_resolution": 0.2,
        "onset_db": 0.5,
        "onset_95_db": 1.0,
        "onset_f1": onset_f1,
        "offset_f1": 0.5,
        "velocity_correlation": 0.9,
        "n_played": 100,
    }
    note = {
        "lsd_db": 8.0,
        "level_db": 0.4,
        "gain_db": 0.3,
        "envelope_db": [1.0, 2.0, 3.0],
        "decay_part": 0.02,
        "onset_ms": 0.7,
        "onset_95_ms": 2.0,
        "late_ms": 0.5,
        "jitter_ms": 0.4,
    }
    keyboard = {"falling_part": 0.0, "unevenness_db": 1.0, "range_db": 20.0}
    return {
        "title": "an instrument",
        "notes": note,
        "keyboard": keyboard,
        "passages": [passage, {**passage, "n_played": 300}],
    }


@pytest.fixture
def saved():
    return {
        "model": "m",
        "digest": "d" * 64,
        "layers": [3],
        "measured_at": "2000-01-01T00:00:00",
        "took_s": 1.0,
        "missing": ["a font"],
        "partials": {
            "envelope_db": [1, 1, 1],
            "envelope_unweighted_db": [2.0, 2.5, 2.0],
            "level_db": 1,
            "decay_part": 0.05,
        },
        "instruments": {"house": made_up_figures(0.970), "sampler": made_up_figures(0.985)},
    }


def test_musts_are_held_or_missed_by_their_figures(saved):
    verdicts = {must.what: (must.figure, must.verdict) for must in of_quality(saved)}

    assert verdicts["held-out layers: level of rendered notes, rms"] == (pytest.approx(0.5), "held")
    assert [verdict for what, (_, verdict) in verdicts.items() if "partials down to" in what] == [
        "held",
        "MISSED",
        "held",
    ]
    assert verdicts["held-out layers: log-spectral distance of rendered notes"] == (8.0, "MISSED")
    assert verdicts["onset F1 of a transcription, below the sampler's"] == (pytest.approx(0.015), "MISSED")


def test_a_must_without_a_figure_is_neither_held_nor_missed(saved):
    for figure in saved["instruments"].values():
        for row in figure["passages"]:
            del row["onset_f1"]
    by_name = {must.what: must for must in of_quality(saved)}

    assert by_name["onset F1 of a transcription, below the sampler's"].verdict == "not measured"
    assert "not measured" in page.musts(saved)


def test_speed_is_judged_by_the_benchmark_of_one_run():
    results = {
        "house/1": {"real_time_factor": {"median": 250.0}},
        "house/2": {"real_time_factor": {"median": 130.0}, "model_bytes": 2e6},
        "cold/house": {"load_s": {"median": 0.7}},
        "fluidsynth/dense": {"real_time_factor": {"median": 65.0}},
    }
    found = {must.what: must for must in of_speed({"results": results})}

    assert found["stereo against FluidSynth with FluidR3 in the same run"].figure == pytest.approx(2.0)
    assert [must.verdict for must in found.values()] == ["held", "held", "MISSED", "held", "MISSED"]
    assert {must.verdict for must in of_speed({"results": {}})} == {"not measured"}


def test_every_table_can_be_written_and_an_unknown_one_is_refused(saved):
    slots = "".join(f"<!-- table: {name} -->\nold\n<!-- end -->\n" for name in page.TABLES)
    filled = page.fill(slots.replace("old\n", "", 1), saved)

    assert filled.count("<!-- table:") == len(page.TABLES)
    assert "old" not in filled
    assert "a font" in filled
    assert page.fill(filled, saved) == filled
    bench = {"machine": {"cpu": "a processor", "commit": "c0ffee"}, "measured_at": "2000-01-01T00:00:00", "results": {}}
    assert "MISSED" in page.card(saved)
    assert "a processor, the default model of commit c0ffee" in page.card(saved, bench)
    with pytest.raises(ValueError, match="nonsense"):
        page.fill("<!-- table: nonsense -->\n\n<!-- end -->", saved)


def test_a_figure_counts_by_its_notes(saved):
    rows = [{"onset_f1": 0.9, "n_played": 100}, {"onset_f1": 0.5, "n_played": 300}]

    assert figures.pooled_f1(rows, "onset_f1") == pytest.approx(0.6)
    assert figures.pooled_f1([{}], "onset_f1") is None
    assert figures.mean([{"x": 1.0}, {"x": 2.0}], "x") == 1.5


def test_figures_are_made_again_only_under_other_conditions(tmp_path):
    shelf = figures.Shelf(tmp_path / "instrument")
    made = iter(range(3))

    def figure(conditions: str) -> figures.Figures:
        return shelf.figures("sound", conditions, lambda: {"x": next(made)})

    assert [figure("a"), figure("a"), figure("b"), figure("b")] == [{"x": 0}, {"x": 0}, {"x": 1}, {"x": 1}]


def test_what_was_heard_is_joined_passage_by_passage():
    sound = {"title": "t", "passages": [{"lsd_db": 1.0}, {"lsd_db": 2.0}]}

    assert figures.together(sound, None) == sound
    joined = figures.together(sound, {"passages": [{"visqol": 4.0}, {"visqol": 4.5}]})
    assert joined == {"title": "t", "passages": [{"lsd_db": 1.0, "visqol": 4.0}, {"lsd_db": 2.0, "visqol": 4.5}]}


def test_ears_that_were_never_set_up_are_named_with_the_cure(tmp_path):
    with pytest.raises(NotFound, match=r"make .venv-ears/.ready"):
        listening.Ears(tmp_path / "python")


def ears_saying(tmp_path, program: str) -> listening.Ears:
    """Ears whose interpreter is this one, running a program that stands in for the heavy packages."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{program}")
    script.chmod(0o755)
    return listening.Ears(script)


def test_ears_get_files_at_48_khz_and_answer_figures(tmp_path):
    program = """
import json, sys, soundfile
asked = json.load(sys.stdin)
((ours, theirs),) = asked["compare"]
sound, rate_hz = soundfile.read(ours)
json.dump({"compare": [{"visqol": rate_hz, "zimtohrli": len(sound)}], "transcribe": [[[0, 1, 60, 64]], []]}, sys.stdout)
"""
    sound = decaying(440, 1.0, 1.0)
    opinions, heard = ears_saying(tmp_path, program).listen([(sound, sound)], [sound, sound], RATE_HZ)

    assert opinions == [listening.Opinion(visqol=48_000, zimtohrli=48_000)]
    assert heard[0].shape == (1, 4)
    assert heard[1].shape == (0, 4)


def test_ears_that_fail_say_their_last_line(tmp_path):
    with pytest.raises(ServiceUnavailable, match="no torch today"):
        ears_saying(tmp_path, "import sys; sys.exit('no torch today')").listen([], [], RATE_HZ)


def test_a_spectrogram_has_a_sine_in_its_row():
    level_db = log_spectrogram_db(decaying(1000, 1e9, 1.0)[:, 0], RATE_HZ)
    rows = len(level_db)
    expected = rows * np.log(1000 / 40) / np.log(16_000 / 40)

    assert level_db.mean(axis=1).argmax() == pytest.approx(expected, abs=2)


def test_saved_figures_are_small_and_plain():
    from pianofarm_training.evaluate import rounded

    kept = rounded({"a": 1.23456789, "b": (0.000123456, 2), "c": [{"d": "text"}]})
    assert json.loads(json.dumps(kept)) == {"a": 1.235, "b": [0.0001235, 2], "c": [{"d": "text"}]}
