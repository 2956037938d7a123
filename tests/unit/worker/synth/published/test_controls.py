"""From raw output to amplitudes and powers, against the formulas written out in float64. Needs no reference material."""

import dataclasses
import math

import numpy as np
import pytest

from .conftest import SMALL, random_weights

N_FRAMES = 6


def config_with(**synthesis):
    return dataclasses.replace(SMALL, synthesis=dataclasses.replace(SMALL.synthesis, **synthesis))


def tables_of(config):
    from pianofarm_worker.synth.published.tuning import tuning_tables

    return tuning_tables(config, random_weights(config), 0)


def computed(config, logits, pitch):
    from pianofarm_worker.synth.published.controls import Controls

    n_voices = pitch.shape[1]
    factor, offset = np.ones((n_voices, 1), np.float32), np.zeros((n_voices, 1), np.float32)
    step = np.ones(pitch.shape, np.float32)
    return Controls(config, tables_of(config)).run(logits.astype(np.float32), step, pitch, factor, offset)


def written_out(config, logits, pitch):
    synthesis, tables, n = config.synthesis, tables_of(config), 1 + config.synthesis.n_partials

    def positive(x):
        if synthesis.scale == "exp_tanh":
            s = (np.tanh(x) + 1) / 2
        else:
            s = np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))
        return 2.0 * s ** math.log(10) + 1e-7

    k = np.arange(1, n)
    f0_hz = tables.f0_hz[pitch, 0].astype(np.float64)[..., None]
    heard = f0_hz * k * np.sqrt(1 + tables.inharmonicity[pitch][..., None].astype(np.float64) * k**2) < (
        config.sample_rate_hz / 2
    )
    shares = positive(logits[..., 1:n])
    if synthesis.normalize_audible:
        shares = shares * heard
    total = shares.sum(axis=-1, keepdims=True)
    amplitude = positive(logits[..., :1]) * (f0_hz > synthesis.min_frequency_hz)
    amplitudes = amplitude * shares * heard / np.where(total == 0, 1e-7, total)
    power = (positive(logits[..., n:] + synthesis.noise_bias) ** 2).sum(axis=1)
    return amplitudes.transpose(1, 0, 2), power


def some_pitches(config):
    pitch = np.random.default_rng(1).integers(21, 109, (N_FRAMES, config.n_voices)).astype(np.uint8)
    pitch[:, 0], pitch[:, 1], pitch[:, 2] = 0, 127, 108  # no note yet; hardly a partial below half the sample rate
    return pitch


@pytest.mark.parametrize(
    "synthesis",
    [{}, {"normalize_audible": False}, {"scale": "exp_tanh", "noise_bias": -2.0}],
    ids=["as dafx22", "all partials share", "exp_tanh"],
)
def test_amplitudes_and_powers_are_those_of_the_formulas(synthesis):
    config = config_with(**synthesis)
    pitch = some_pitches(config)
    logits = 3 * np.random.default_rng(2).standard_normal((N_FRAMES, config.n_voices, config.n_controls))

    amplitudes, power = computed(config, logits, pitch)
    expected, expected_power = written_out(config, logits, pitch)

    np.testing.assert_allclose(amplitudes, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(power, expected_power, rtol=1e-5)
    assert not amplitudes[0].any()
    assert amplitudes[3:].max(axis=(1, 2)).min() > 0
    assert (amplitudes[2] == 0).any()


@pytest.mark.parametrize("scale", ["exp_sigmoid", "exp_tanh"])
def test_logits_of_any_size_stay_finite(scale):
    config = config_with(scale=scale)
    pitch = some_pitches(config)
    for logit in (-1e4, -90.0, 90.0, 1e4):
        logits = np.full((N_FRAMES, config.n_voices, config.n_controls), logit)
        for got, expected in zip(computed(config, logits, pitch), written_out(config, logits, pitch), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("place", [0, 1, 13, -1])
def test_what_is_no_number_stays_none(place):
    """So that the gates see a broken model; an infinite logit is a loud or a silent one."""
    pitch = np.full((N_FRAMES, SMALL.n_voices), 30, np.uint8)
    logits = np.zeros((N_FRAMES, SMALL.n_voices, SMALL.n_controls))
    logits[2, 0, place] = np.nan
    amplitudes, power = computed(SMALL, logits, pitch)
    assert np.isnan(power[2]).any() if place in (13, -1) else np.isnan(amplitudes[0, 2]).any()
    assert np.isfinite(amplitudes[1:]).all()
    assert np.isfinite(power[[0, 1, 3]]).all()

    logits[2, 0, place] = np.inf
    assert all(np.isfinite(array).all() for array in computed(SMALL, logits, pitch))


@pytest.mark.parametrize("n_partials", [1, 15, 16, 17, 40])
def test_rows_of_any_length_are_scaled_to_their_end(n_partials):
    """The loop handles 16 elements at a time, and what is left over one by one."""
    config = config_with(n_partials=n_partials, n_noise_bands=n_partials + 3)
    pitch = some_pitches(config)
    logits = np.random.default_rng(3).standard_normal((N_FRAMES, config.n_voices, config.n_controls))
    for got, expected in zip(computed(config, logits, pitch), written_out(config, logits, pitch), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


def test_controls_held_in_16_bits_are_scaled_as_their_values_are():
    from pianofarm_worker.synth.published.controls import Controls

    pitch = some_pitches(SMALL)
    random = np.random.default_rng(4)
    q = random.integers(-32767, 32768, (N_FRAMES, SMALL.n_voices, SMALL.n_controls)).astype(np.int16)
    step = random.uniform(1e-5, 2e-4, (N_FRAMES, SMALL.n_voices)).astype(np.float32)
    factor = random.uniform(0.5, 2, (SMALL.n_voices, 1)).astype(np.float32)
    offset = random.standard_normal((SMALL.n_voices, SMALL.n_controls)).astype(np.float32)
    got = Controls(SMALL, tables_of(SMALL)).run(q, step, pitch, factor, offset)
    expected = written_out(SMALL, q * (step[..., None] * factor.astype(float)) + offset, pitch)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-9)
