"""The noise of all notes: as loud as its powers say, the same for the same frames however they are asked for, never a loop."""

import itertools

import numpy as np

from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.noise_bus import N_FRAMES, NoiseBus

LAYOUT = Layout()
HOP, N_BANDS, RATE_HZ = LAYOUT.bands.hop, LAYOUT.bands.n_bands, LAYOUT.sample_rate_hz

#: Full scale^2 per Hz: -20 dB in all.
DENSITY = 0.01 / (RATE_HZ / 2)


def noise(n_frames, *, seed=1, blocks=None, n_channels=2):
    bus = NoiseBus(LAYOUT, n_channels, seed)
    bus.add(0, np.full((n_frames, n_channels, N_BANDS), DENSITY, np.float32))
    starts = np.cumsum([0, *(blocks or [n_frames])])
    return np.concatenate([bus.play(int(a) * HOP, int(b - a) * HOP) for a, b in itertools.pairwise(starts)], axis=1)


def test_it_is_as_loud_as_its_powers_say_at_every_frequency():
    sound = noise(4000)[:, HOP:]
    spectra = np.abs(np.fft.rfft(sound[:, : sound.shape[1] // 512 * 512].reshape(2, -1, 512) * np.hanning(512))) ** 2

    assert np.abs(10 * np.log10((sound**2).mean(axis=1) / 0.01)).max() < 0.2
    octaves_db = [10 * np.log10(spectra[:, :, 1 << k : 2 << k].mean()) for k in range(2, 8)]
    assert np.ptp(octaves_db) < 0.6


def test_blocks_change_nothing_and_seeds_everything():
    whole = noise(60)

    np.testing.assert_array_equal(noise(60, blocks=[1, 2, 30, 27])[:, : 33 * HOP], whole[:, : 33 * HOP])
    assert np.abs(np.corrcoef(whole[0], noise(60, seed=2)[0])[0, 1]) < 0.1


def test_channels_are_independent_and_no_noise_comes_round():
    left, right = noise(3 * N_FRAMES)

    assert np.abs(np.corrcoef(left, right)[0, 1]) < 0.02
    spectrum = np.fft.rfft(left, 1 << 20)
    alike = np.fft.irfft(np.abs(spectrum) ** 2)[: len(left)]
    # Beyond the band's own correlation no delay finds the noise again: a loop of frames would stand at a third or more.
    assert np.abs(alike[HOP:]).max() < 0.05 * alike[0]
