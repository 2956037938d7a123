import dataclasses

import numpy as np
import pytest

from pianofarm_common import midi
from pianofarm_common.errors import QualityGateFailed
from pianofarm_common.midi import MidiLimits, Performance
from pianofarm_common.renders import RenderOptions
from pianofarm_worker import quality
from pianofarm_worker.synth.piano import Rendering

RATE = 16_000


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
        quality.check(SCORE, dataclasses.replace(rendering, dry=rendering.dry[1:]), RenderOptions())


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
