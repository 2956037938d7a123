import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pianofarm_common import midi
from pianofarm_common.errors import QualityGateFailed
from pianofarm_common.midi import MidiLimits, Performance
from pianofarm_common.models import find_model
from pianofarm_common.renders import RenderOptions
from pianofarm_worker import quality
from pianofarm_worker.synth.piano import Rendering, load

RATE = 16_000
EXAMPLES = Path(__file__).parents[3] / "examples"


def performance(*notes, pedal=()):
    """Notes as (onset_s, offset_s, pitch), sustain pedal as (time_s, value)."""
    onset_s, offset_s, pitch = (np.array(column) for column in zip(*notes, strict=True))
    control_s, value = (
        (np.array(column) for column in zip(*pedal, strict=True)) if pedal else (np.zeros(0), np.zeros(0))
    )
    return Performance(
        onset_s=onset_s.astype(np.float64),
        offset_s=offset_s.astype(np.float64),
        pitch=pitch.astype(np.uint8),
        velocity=np.full(len(onset_s), 64, np.uint8),
        control_s=control_s.astype(np.float64),
        control_number=np.full(len(control_s), 64, np.uint8),
        control_value=value.astype(np.uint8),
    )


def played(score, length_s, level=0.1):
    """Every note as a decaying tone."""
    t = np.arange(round(length_s * RATE)) / RATE
    wet = np.zeros(len(t))
    for onset_s, pitch in zip(score.onset_s, score.pitch, strict=True):
        since = np.maximum(t - onset_s, 0)
        wet += np.where(
            t >= onset_s, level * np.exp(-2 * since) * np.sin(2 * np.pi * 8.18 * 2 ** (pitch / 12) * since), 0
        )
    stem = wet.astype(np.float32)[:, None]
    return Rendering(wet=stem, dry=stem.copy(), sample_rate_hz=RATE, notes=len(score.pitch), dropped_notes=0)


SCORE = performance((0.5, 1.0, 60), (1.0, 1.5, 64), (1.5, 2.0, 67), (8.0, 9.0, 72))


def test_a_render_that_follows_the_notes_passes():
    quality.check(SCORE, played(SCORE, 10.0), RenderOptions())


@pytest.mark.parametrize("stem", ["wet", "dry"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_fails(stem, value):
    rendering = played(SCORE, 10.0)
    getattr(rendering, stem)[77] = value
    with pytest.raises(QualityGateFailed, match=rf"1 of 160000 samples \({stem}\) are not finite"):
        quality.check(SCORE, rendering, RenderOptions())


def test_silence_fails():
    with pytest.raises(QualityGateFailed, match="100% of the time after key strokes is silent"):
        quality.check(SCORE, played(SCORE, 10.0, level=0), RenderOptions())


def test_a_passage_that_stayed_silent_fails():
    rendering = played(SCORE, 10.0)
    rendering.wet[round(1.0 * RATE) : round(2.0 * RATE)] = 0
    with pytest.raises(QualityGateFailed, match="% of the time after key strokes is silent"):
        quality.check(SCORE, rendering, RenderOptions())


@pytest.mark.parametrize(("level", "figure"), [(1.5e-4, -84), (30.0, 20)])
def test_notes_far_too_soft_or_too_loud_fail(level, figure):
    with pytest.raises(QualityGateFailed, match="the notes are at") as failure:
        quality.check(SCORE, played(SCORE, 10.0, level), RenderOptions(normalize_dbfs=-1.0))
    assert float(str(failure.value).split()[4]) == pytest.approx(figure, abs=4)


def test_clipping_fails_unless_a_level_was_asked_for():
    loud = played(SCORE, 10.0, level=1.5)
    with pytest.raises(QualityGateFailed, match=r"samples clip .* ask for normalize_dbfs"):
        quality.check(SCORE, loud, RenderOptions())
    quality.check(SCORE, played(SCORE, 10.0, level=0.7), RenderOptions(normalize_dbfs=-1.0))


@pytest.mark.parametrize(
    ("length_s", "options"),
    [
        (8.9, RenderOptions()),
        (75.0, RenderOptions()),
        (10.5, RenderOptions(tail=False)),
        (2.5, RenderOptions(duration_s=3.0)),
    ],
)
def test_a_render_of_another_length_fails(length_s, options):
    with pytest.raises(QualityGateFailed, match=rf"{length_s:.3f} s of audio for"):
        quality.check(SCORE, played(SCORE, length_s), options)


def test_a_cut_performance_needs_only_its_part():
    quality.check(SCORE, played(SCORE, 3.0), RenderOptions(duration_s=3.0, tail=False))


def test_keys_after_the_cut_need_not_sound():
    score = performance((0.0, 1.0, 60), (2.5, 9.0, 64), (3.5, 5.0, 67))
    rendering = played(score, 9.0)
    rendering.wet[round(3.0 * RATE) :] = 0
    quality.check(score, rendering, RenderOptions(duration_s=3.0))


def test_stems_of_different_length_fail():
    rendering = played(SCORE, 10.0)
    with pytest.raises(QualityGateFailed, match="159999 dry samples but 160000 wet ones"):
        quality.check(SCORE, dataclasses.replace(rendering, dry=rendering.dry[1:]), RenderOptions(dry=True))


def test_rests_as_loud_as_the_notes_fail():
    rendering = played(SCORE, 10.0)
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(rendering.wet)) / RATE)
    rendering.wet[:, 0] += hum.astype(np.float32)
    with pytest.raises(QualityGateFailed, match="the level does not follow the notes"):
        quality.check(SCORE, rendering, RenderOptions())


def test_a_held_pedal_is_no_rest():
    held = performance((0.0, 0.5, 60), (8.0, 9.0, 72), pedal=[(0.0, 127), (9.5, 0)])
    rendering = played(held, 10.0)
    rendering.wet[:, 0] += 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(rendering.wet)) / RATE).astype(np.float32)
    quality.check(held, rendering, RenderOptions())


def test_keys_that_no_piano_has_need_not_sound():
    quality.check(performance((0.0, 1.0, 5), (2.0, 3.0, 120)), played(SCORE, 10.0, level=0), RenderOptions())


@pytest.mark.parametrize("piece", ["bach_846", "chpn-p3", "liz_et3"])
def test_the_audio_of_the_original_passes(shared, piece):
    score = midi.read_performance(
        (shared / "parity" / f"{piece}.mid").read_bytes(), MidiLimits(10**7, 7200, 10**6, 1024)
    )
    with np.load(shared / "parity" / f"{piece}.npz") as original:
        wet, dry = (original[name][8_000:, None] for name in ("wet1", "dry1"))
    options = RenderOptions(duration_s=6.0, tail=False)
    quality.check(score, Rendering(wet=wet, dry=dry, sample_rate_hz=RATE, notes=1, dropped_notes=0), options)


def dense(seed=1, n_notes=150, rate=RATE):
    """A piece without rests from its first moment on, and its sound: decaying tones in two channels, loud and soft by turns."""
    random = np.random.default_rng(seed)
    onset_s = np.arange(n_notes) * 0.2
    score = dataclasses.replace(
        performance(*zip(onset_s, onset_s + 0.25, random.integers(40, 90, n_notes), strict=True)),
        velocity=(np.where(np.arange(n_notes) // 25 % 2, 100, 50) + random.integers(-8, 9, n_notes)).astype(np.uint8),
    )
    wet = np.zeros((round((score.duration_s + 0.5) * rate), 2), np.float32)
    for onset, pitch, velocity in zip(score.onset_s, score.pitch, score.velocity, strict=True):
        t = np.arange(min(round(1.5 * rate), len(wet) - round(onset * rate))) / rate
        hz = 440 * 2 ** ((int(pitch) - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * hz * t) / k for k in (1, 2, 3) if k * hz < rate / 2)
        tone = 0.2 * (velocity / 127) ** 2 * np.exp(-4 * t) * tone
        wet[round(onset * rate) :][: len(t)] += (tone[:, None] * [1.0, 0.5]).astype(np.float32)
    return score, Rendering(wet=wet, dry=wet.copy(), sample_rate_hz=rate, notes=n_notes, dropped_notes=0)


def with_sound(rendering, wet):
    return dataclasses.replace(rendering, wet=np.ascontiguousarray(wet, np.float32))


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 44_100])
@pytest.mark.parametrize("duration_s", [None, 12.3])
def test_a_dense_piece_passes_at_every_rate_and_cut_anywhere(rate, duration_s):
    score, rendering = dense(rate=rate)
    if duration_s is not None:
        rendering = with_sound(rendering, rendering.wet[: round(duration_s * rate)])
        rendering = dataclasses.replace(rendering, dry=rendering.wet)
    quality.check(score, rendering, RenderOptions(duration_s=duration_s))


def noise(wet):
    return np.random.default_rng(2).normal(0, 0.05, wet.shape)


def hum(wet):
    return np.repeat(0.1 * np.sin(2 * np.pi * 50 * np.arange(len(wet)) / RATE)[:, None], 2, axis=1)


def backwards(wet):
    return wet[::-1]


def late(wet):
    return np.roll(wet, round(0.37 * RATE), axis=0)


@pytest.mark.parametrize("fault", [noise, hum, backwards, late])
def test_a_dense_piece_that_is_not_in_the_sound_fails(fault):
    score, rendering = dense()
    with pytest.raises(QualityGateFailed, match="these notes are not in the sound, or not in time"):
        quality.check(score, with_sound(rendering, fault(rendering.wet)), RenderOptions())


def test_other_notes_than_those_of_the_piece_fail():
    score, _ = dense(seed=1)
    _, other = dense(seed=2)
    other = with_sound(other, np.roll(other.wet, round(0.1 * RATE), axis=0))
    with pytest.raises(QualityGateFailed, match="these notes are not in the sound"):
        quality.check(score, other, RenderOptions())


def test_inverted_velocities_fail():
    score, rendering = dense()
    inverted = dataclasses.replace(score, velocity=(150 - score.velocity.astype(int)).astype(np.uint8))
    with pytest.raises(QualityGateFailed, match="the level does not follow the velocities"):
        quality.check(inverted, rendering, RenderOptions())


def test_a_model_without_velocities_passes():
    score, rendering = dense()
    any_velocity = np.random.default_rng(5).integers(40, 110, len(score.pitch)).astype(np.uint8)
    quality.check(dataclasses.replace(score, velocity=any_velocity), rendering, RenderOptions())


@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_channel_fails(dead):
    score, rendering = dense()
    rendering.wet[:, dead] = 0
    with pytest.raises(QualityGateFailed, match=f"channel {dead + 1} of 2 is .* it is dead"):
        quality.check(score, rendering, RenderOptions())


def test_a_channel_much_softer_than_the_other_passes():
    score, rendering = dense()
    quality.check(score, with_sound(rendering, rendering.wet * [1.0, 0.1]), RenderOptions())


def test_a_level_that_only_soft_playing_can_have_fails_for_any_other():
    score, rendering = dense()
    soft = with_sound(rendering, rendering.wet * 10**-2.5)
    with pytest.raises(QualityGateFailed, match="expected -70 to -3"):
        quality.check(score, soft, RenderOptions())
    quality.check(dataclasses.replace(score, velocity=score.velocity // 8 + 1), soft, RenderOptions())


def test_renders_that_lack_many_notes_by_the_models_polyphony_are_not_judged_by_their_strikes():
    score, rendering = dense()
    lacking = dataclasses.replace(with_sound(rendering, noise(rendering.wet)), dropped_notes=60)
    quality.check(score, lacking, RenderOptions())


@pytest.mark.parametrize("piece", ["dense-study", "pedal-study", "velocity-ladder"])
def test_the_default_models_examples_pass_and_fail_backwards(piece, tmp_path):
    score = midi.read_performance((EXAMPLES / f"{piece}.mid").read_bytes(), MidiLimits(10**7, 7200, 10**6, 1024))
    options = RenderOptions()
    piano = load(find_model("default", tmp_path))
    rendering = piano.render(score, options, seed=1)
    quality.check(score, rendering, options)
    if piece != "velocity-ladder":  # too few clear strikes to judge
        with pytest.raises(QualityGateFailed):
            quality.check(score, with_sound(rendering, rendering.wet[::-1]), options)
