import hashlib
import io

import numpy as np
import pytest
import soundfile

from pianofarm_common.renders import RenderOptions
from pianofarm_worker import audio
from pianofarm_worker.containers import MEDIA_TYPES
from pianofarm_worker.synth.piano import Rendering


def tone(seconds=1.0, rate=16_000, hz=997.0, level=0.5, n_channels=1):
    t = np.arange(round(seconds * rate)) / rate
    return np.repeat((level * np.sin(2 * np.pi * hz * t)).astype(np.float32)[:, None], n_channels, axis=1)


def decoded(encoded):
    return soundfile.read(io.BytesIO(encoded.data), dtype="float64", always_2d=True)[0]


def test_by_default_the_file_has_the_rate_channels_and_level_of_the_model():
    encoded = audio.encode(tone(n_channels=2), 16_000, RenderOptions())
    assert (encoded.n_samples, encoded.channels, encoded.sample_rate_hz, encoded.audio_s) == (16_000, 2, 16_000, 1.0)
    assert encoded.sha256 == hashlib.sha256(encoded.data).hexdigest()
    assert np.abs(decoded(encoded) - tone(n_channels=2)).max() <= 2.0**-16
    assert encoded.peak_dbfs == pytest.approx(-6.02, abs=0.01)


@pytest.mark.parametrize("to_hz", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_resampling_keeps_the_tone_and_the_length(to_hz):
    encoded = audio.encode(tone(), 16_000, RenderOptions(sample_rate_hz=to_hz))
    assert encoded.n_samples == to_hz
    middle = slice(to_hz // 10, -to_hz // 10)
    assert np.abs(decoded(encoded)[middle] - tone(rate=to_hz)[middle]).max() < 1e-4


def test_mono_is_doubled_and_stereo_averaged():
    stereo = audio.encode(tone(), 16_000, RenderOptions(channels=2))
    assert (decoded(stereo)[:, 0] == decoded(stereo)[:, 1]).all()
    opposite = tone(n_channels=2) * np.array([1, -1], np.float32)
    assert not decoded(audio.encode(opposite, 16_000, RenderOptions(channels=1))).any()


@pytest.mark.parametrize("level_dbfs", [0.0, -1.0, -20.0])
def test_the_peak_is_brought_to_the_level_asked_for(level_dbfs):
    options = RenderOptions(normalize_dbfs=level_dbfs, sample_format="float32", sample_rate_hz=44_100)
    encoded = audio.encode(tone(level=0.003), 16_000, options)
    assert encoded.peak_dbfs == pytest.approx(level_dbfs, abs=1e-3)
    assert 20 * np.log10(np.abs(decoded(encoded)).max()) == pytest.approx(level_dbfs, abs=1e-3)


def test_loudness_is_brought_to_the_level_asked_for():
    tone = 0.05 * np.sin(2 * np.pi * 440 * np.arange(64_000) / 16_000, dtype=np.float32)[:, None]
    encoded = audio.encode(tone, 16_000, RenderOptions(normalize_lufs=-20.0, sample_format="float32"))
    assert encoded.loudness_lufs == pytest.approx(-20.0, abs=0.05)


def test_loudness_stops_where_the_peak_would_pass_the_ceiling():
    click_and_tone = 0.01 * np.sin(2 * np.pi * 440 * np.arange(64_000) / 16_000, dtype=np.float32)[:, None]
    click_and_tone[30_000] = 0.9
    encoded = audio.encode(click_and_tone, 16_000, RenderOptions(normalize_lufs=-12.0, normalize_dbfs=-3.0))
    assert encoded.peak_dbfs == pytest.approx(-3.0, abs=0.01)
    assert encoded.loudness_lufs is not None
    assert encoded.loudness_lufs < -12.0


def test_silence_stays_silent_whatever_loudness_is_asked_for():
    encoded = audio.encode(np.zeros((16_000, 1), np.float32), 16_000, RenderOptions(normalize_lufs=-18.0))
    assert encoded.loudness_lufs is None
    assert encoded.peak_dbfs == audio.LOWEST_DBFS


def test_silence_can_be_normalized_and_has_no_loudness():
    encoded = audio.encode(np.zeros((16_000, 1), np.float32), 16_000, RenderOptions(normalize_dbfs=-1.0))
    assert not decoded(encoded).any()
    assert encoded.loudness_lufs is None
    assert encoded.peak_dbfs == audio.LOWEST_DBFS


@pytest.mark.parametrize("container", sorted(MEDIA_TYPES))
def test_the_same_samples_give_the_same_bytes(container):
    options = RenderOptions(format=container, sample_rate_hz=22_050, channels=2, normalize_dbfs=-1.0)
    assert audio.encode(tone(), 16_000, options) == audio.encode(tone(), 16_000, options)


def test_nothing_at_all_can_be_encoded():
    encoded = audio.encode(np.zeros((0, 1), np.float32), 16_000, RenderOptions(sample_rate_hz=48_000))
    assert (encoded.n_samples, encoded.loudness_lufs) == (0, None)
    assert decoded(encoded).shape == (0, 1)


def rendering(sounding_s, silent_s, residue=0.0, rate=16_000):
    wet = np.concatenate((tone(sounding_s, rate), np.full((round(silent_s * rate), 1), residue, np.float32)))
    return Rendering(wet=wet, dry=wet / 4, sample_rate_hz=rate, notes=1, dropped_notes=0)


@pytest.mark.parametrize("residue", [0.0, 5e-6])
def test_a_silent_tail_is_cut_from_dry_and_wet_alike(residue):
    whole = rendering(2, 12, residue)
    cut = audio.trimmed(whole, keep_s=1.0)
    assert abs(len(cut.wet) - 32_000) <= 1
    assert len(cut.dry) == len(cut.wet)
    assert (cut.wet == whole.wet[: len(cut.wet)]).all()


def test_a_tail_that_rings_stays_and_so_does_what_belongs_to_the_performance():
    assert len(audio.trimmed(rendering(2, 6, residue=1e-3), keep_s=1.0).wet) == 8 * 16_000
    assert len(audio.trimmed(rendering(2, 6), keep_s=3.5).wet) == 56_000
    assert len(audio.trimmed(rendering(0, 6), keep_s=100.0).wet) == 6 * 16_000


def test_a_tail_is_kept_while_one_of_the_stems_sounds():
    whole = rendering(2, 6)
    whole.dry[80_000] = 0.1
    assert len(audio.trimmed(whole, keep_s=1.0).wet) == 80_001


def test_as_much_of_the_room_is_heard_as_was_asked_for_and_the_dry_sound_stays():
    whole = rendering(1, 0)
    half, twice = audio.with_room(whole, 0.5), audio.with_room(whole, 2.0)

    np.testing.assert_allclose(half.wet - whole.dry, 0.5 * (whole.wet - whole.dry), atol=1e-6)
    np.testing.assert_allclose(twice.wet - whole.dry, 2.0 * (whole.wet - whole.dry), atol=1e-6)
    assert (half.dry == whole.dry).all()


def test_the_whole_room_and_none_of_it_are_the_stems_as_they_are():
    whole = rendering(1, 0)
    assert audio.with_room(whole, 1.0).wet is whole.wet
    assert audio.with_room(whole, 0.0).wet is whole.dry


@pytest.mark.parametrize("wet", [np.full((160, 1), np.inf, np.float32), np.zeros((159, 1), np.float32)])
def test_a_broken_rendering_is_left_to_the_gates(wet):
    whole = Rendering(
        wet=wet, dry=np.full((160, 1), np.inf, np.float32), sample_rate_hz=16_000, notes=1, dropped_notes=0
    )
    assert not np.isfinite(audio.with_room(whole, 0.5).dry).any()
