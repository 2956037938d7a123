import itertools

import numpy as np
import pytest

from pianofarm_common.errors import BadModel
from pianofarm_worker.synth.noise import FilteredNoise, WhiteNoise, summed_magnitudes, uniform_noise

SEED = 2**63 - 25


def magnitudes(n_frames=30, n_bands=64, seed=0):
    return np.random.default_rng(seed).random((n_frames, n_bands), np.float32)


def render(responses, hop, chunks=None, seed=SEED):
    synth = FilteredNoise(responses.shape[1], hop, seed)
    bounds = np.cumsum([0, *(chunks or [len(responses)])])
    audio = [synth.push(responses[start:end]) for start, end in itertools.pairwise(bounds)]
    return np.concatenate([*audio, synth.finish()])


def test_a_sample_of_noise_depends_on_its_number_alone():
    whole = uniform_noise(SEED, 0, 500)
    for first in (0, 1, 7, 8, 9, 250, 499):
        assert (uniform_noise(SEED, first, 500 - first) == whole[first:]).all()
    assert len(uniform_noise(SEED, 3, 0)) == 0


def test_seeds_and_streams_give_unrelated_noise():
    a, b, c = uniform_noise(1, 0, 20_000), uniform_noise(2, 0, 20_000), uniform_noise(1, 0, 20_000, stream=1)
    for one, other in ((a, b), (a, c), (b, c)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_noise_taken_bit_by_bit_is_the_same_noise():
    source, sizes = WhiteNoise(SEED), (256, 0, 4000, 1, 9000, 4096, 64)
    taken = np.concatenate([source.take(n) for n in sizes])
    assert (taken == uniform_noise(SEED, 0, sum(sizes))).all()


def test_noise_is_uniform_and_white():
    noise = uniform_noise(SEED, 0, 200_000).astype(np.float64)
    assert noise.min() >= -1
    assert noise.max() < 1
    counts = np.histogram(noise, bins=20, range=(-1, 1))[0]
    assert np.abs(counts / 10_000 - 1).max() < 0.05
    assert abs(np.mean(noise[1:] * noise[:-1]) * 3) < 0.01


@pytest.mark.parametrize(("n_bands", "hop"), [(64, 64), (32, 32), (96, 96), (128, 128), (40, 64)])
def test_it_equals_the_frequency_filter_of_ddsp(n_bands, hop, ddsp_core):
    responses = magnitudes(n_bands=n_bands)
    noise = uniform_noise(SEED, 0, 30 * hop)
    expected = ddsp_core.frequency_filter(noise[None], responses[None], window_size=257)[0].numpy()
    assert np.abs(render(responses, hop) - expected).max() < 3e-6


@pytest.mark.parametrize("chunks", [[1] * 30, [2, 17, 11], [29, 1]])
def test_chunks_change_nothing_but_float_rounding(chunks):
    responses = magnitudes()
    assert np.abs(render(responses, 64, chunks) - render(responses, 64)).max() < 1e-6


def test_the_same_chunks_give_the_same_bytes():
    responses = magnitudes()
    assert render(responses, 64, [10, 20]).tobytes() == render(responses.copy(), 64, [10, 20]).tobytes()


def test_every_frame_becomes_a_hop():
    synth = FilteredNoise(64, 64, SEED)
    assert len(synth.push(magnitudes(5))) == 4 * 64
    assert len(synth.push(magnitudes(0))) == 0
    assert len(synth.push(magnitudes(6))) == 6 * 64
    assert len(synth.finish()) == 64


def test_one_noise_is_as_loud_as_one_noise_for_every_voice():
    # Smooth over frequency, as the networks give them: a response that jumps from band to band loses level in the filter.
    slope = np.linspace(1, 4, 16)[:, None, None] * np.linspace(0, 1, 64)
    responses = np.repeat(np.exp(-slope), 2000, axis=1).astype(np.float32)
    together = render(summed_magnitudes(responses), 64)
    apart = sum(render(response, 64, seed=voice) for voice, response in enumerate(responses))
    level_db = 20 * np.log10(np.std(together) / np.std(apart))
    assert abs(level_db) < 0.1


def test_a_band_sounds_where_it_should():
    responses = np.zeros((500, 64), np.float32)
    responses[:, 20:24] = 1
    spectrum = np.abs(np.fft.rfft(render(responses, 64))) ** 2
    band_hz = np.fft.rfftfreq(500 * 64, 1 / 16_000)[np.argsort(spectrum)[-len(spectrum) // 20 :]]
    assert 20 / 63 * 8_000 - 400 < band_hz.min() < band_hz.max() < 23 / 63 * 8_000 + 400


@pytest.mark.parametrize(("n_bands", "hop"), [(2, 64), (68, 64), (130, 256)])
def test_bands_that_do_not_fit_the_frame_are_refused(n_bands, hop):
    with pytest.raises(BadModel, match=rf"{n_bands} noise bands at {hop} samples"):
        FilteredNoise(n_bands, hop, SEED)
