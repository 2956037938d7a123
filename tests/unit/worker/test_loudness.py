import numpy as np
import pyloudnorm
import pytest

from pianofarm_worker.loudness import loudness_lufs


def tone(seconds, rate=48_000, level=1.0, n_channels=1):
    t = np.arange(round(seconds * rate)) / rate
    return np.repeat((level * np.sin(2 * np.pi * 997 * t)).astype(np.float32)[:, None], n_channels, axis=1)


def test_the_calibration_tone_of_the_standard():
    # 997 Hz at full scale in one channel is -3.01 LUFS.
    assert loudness_lufs(tone(5), 48_000) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(tone(5, n_channels=2), 48_000) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_it_equals_pyloudnorm_at_every_rate(rate):
    random = np.random.default_rng(rate)
    swell = np.repeat(10.0 ** random.uniform(-4, 0, 30), rate)[:, None]  # a level for each second: both gates at work
    samples = (swell * random.uniform(-1, 1, (30 * rate, 2))).astype(np.float32)
    expected = pyloudnorm.Meter(rate).integrated_loudness(samples.astype(np.float64))
    assert loudness_lufs(samples, rate) == pytest.approx(expected, abs=0.01)


def test_silence_around_music_does_not_count():
    quiet = np.zeros((48_000 * 20, 1), np.float32)
    # Six of a hundred blocks are half music.
    assert loudness_lufs(np.concatenate((quiet, tone(10), quiet)), 48_000) == pytest.approx(-3.01, abs=0.25)


def test_what_is_too_short_or_too_soft_has_none():
    assert loudness_lufs(tone(0.39), 48_000) is None
    assert loudness_lufs(tone(0.4), 48_000) is not None
    assert loudness_lufs(tone(1.0, level=1e-5), 48_000) is None
    assert loudness_lufs(np.zeros((48_000, 2), np.float32), 48_000) is None
    assert loudness_lufs(np.zeros((0, 1), np.float32), 48_000) is None
