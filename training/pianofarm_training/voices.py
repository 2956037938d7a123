"""A house model's notes played in JAX as the renderer plays them, so that a loss on their sound reaches the networks.

The same laws as `house.tables`, `house.grains`, `house.knock` and `house.noise_bus`; a test holds the two together. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pianofarm_training.descent import Arrays
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz, band_weights
from pianofarm_worker.synth.house.grains import make_basis
from pianofarm_worker.synth.house.knock import Knocks
from pianofarm_worker.synth.house.layout import Layout


@dataclass(frozen=True)
class Known:
    """What is not learned here, of every recorded key; partials are padded to the same number."""

    frequency_hz: Any  #: [n_keys, n_partials]
    is_partial: Any  #: [n_keys, n_partials], 1 or 0
    phase: Any  #: [n_keys, 2, n_partials]
    turn: Any  #: [n_keys, n_partials, n_hops + 1], complex
    cosine: Any  #: [n_keys, n_partials, hop]
    sine: Any  #: [n_keys, n_partials, hop]
    rise: Any  #: [n_keys, RISE_HOPS, hop]
    knock: Any  #: [n_keys, 2, N_GROUPS, n_samples]
    knock_gain: Any  #: [128, N_GROUPS]
    tone: Any  #: [2, n_bands]


def measured(parameters: Mapping[str, NDArray[np.float32]], layout: Layout, n_hops: int) -> Known:
    """What a note needs besides the networks.

    Args:
        parameters: of a whole model.
        layout: of the model.
        n_hops: longest part of a note that is to be played.
    """
    frequency_hz = parameters["tuning.frequency_hz"].astype(float)
    n_partials = parameters["tuning.n_partials"].astype(int)
    cycles = frequency_hz[..., None] * (layout.hop / layout.sample_rate_hz) * np.arange(n_hops + 1) % 1.0
    bases = [make_basis(hz, layout.sample_rate_hz, layout.hop) for hz in frequency_hz]
    knocks = Knocks(parameters, layout.sample_rate_hz)
    tone_db = parameters.get("hiss.density_db", np.full((2, layout.bands.n_bands), -200.0, np.float32))
    return Known(
        frequency_hz=jnp.asarray(frequency_hz, jnp.float32),
        is_partial=jnp.asarray(np.arange(frequency_hz.shape[1]) < n_partials[:, None], jnp.float32),
        phase=jnp.asarray(parameters["tuning.phase"]),
        turn=jnp.asarray(np.exp(2j * np.pi * cycles), jnp.complex64),
        cosine=jnp.asarray(np.stack([basis.cosine for basis in bases])),
        sine=jnp.asarray(np.stack([basis.sine for basis in bases])),
        rise=jnp.asarray(np.stack([layout.rise(float(rise_s)) for rise_s in parameters["tuning.rise_s"]])),
        knock=jnp.asarray(np.stack([knocks.of(key) for key in range(len(frequency_hz))])),
        knock_gain=jnp.asarray(knocks.gain),
        tone=jnp.asarray(10 ** (tone_db / 10), jnp.float32),
    )


def struck(parameters: Arrays, known: Known, key: Any, velocity: Any, functions: Any, time_s: Any) -> Any:
    """A note without its noise: partials and knock. [2, n_hops * hop]

    Args:
        parameters: of the networks.
        known: from `measured`, for as many hops.
        key: index of the recorded key.
        velocity: 1..127.
        functions: of the partials (`network.time_functions`) at `time_s`.
        time_s: [n_hops + 1], of the frames.
    """
    partials = _partials(parameters, known, key, velocity, functions, time_s)
    knock = jnp.einsum("g,cgn->cn", known.knock_gain[jnp.round(velocity).astype(int)], known.knock[key])
    n_knock = min(knock.shape[1], partials.shape[1])
    return partials.at[:, :n_knock].add(knock[:, :n_knock])


def _partials(parameters: Arrays, known: Known, key: Any, velocity: Any, functions: Any, time_s: Any) -> Any:
    """As `house.tables` and `house.grains` do it. [2, n_hops * hop]"""
    n = known.frequency_hz.shape[1]
    rows = network.Rows(jnp.full(n, key), jnp.arange(n), known.frequency_hz[key])
    amplitude = network.amplitude(network.modes(parameters, "partial", rows, jnp), functions, time_s, jnp)
    gain_db = network.gain_db(parameters, "partial", rows, velocity[None], jnp)[:, 0]
    start = jax.lax.stop_gradient(jnp.angle(amplitude[:, :, :1]))
    turned = amplitude * jnp.exp(1j * (known.phase[key].T[:, :, None] - start)) * known.turn[key][:, None]
    turned = turned * (10 ** (gain_db / 20) * known.is_partial[key])[:, None, None]
    cosine, sine = known.cosine[key], known.sine[key]
    even = jnp.einsum("pcf,ps->cfs", turned.real, cosine)
    odd = jnp.einsum("pcf,ps->cfs", turned.imag, sine)
    falling, rising = (even - odd)[:, :-1], (even + odd)[:, 1:]
    hops = falling.at[:, :, 1:].add(rising[:, :, :0:-1])
    n_rise = min(known.rise.shape[1], hops.shape[1])
    hops = hops.at[:, :n_rise].multiply(known.rise[key][:n_rise])
    return hops.reshape(2, -1)


def noise_power(parameters: Arrays, key: Any, velocity: Any, functions: Any, noise_s: Any, layout: Layout) -> Any:
    """Noise of a note. [2, n_frames, n_bands], full scale^2 per Hz"""
    n = layout.bands.n_bands
    centres_hz = jnp.asarray(band_centres_hz(n, layout.sample_rate_hz), jnp.float32)
    rows = network.Rows(jnp.full(n, key), jnp.arange(n), centres_hz)
    level_db = network.noise_db(network.modes(parameters, "noise", rows, jnp), functions, noise_s, jnp)
    level_db = level_db + network.gain_db(parameters, "noise", rows, velocity[None], jnp)[:, :, None]
    return (10 ** (level_db / 10)).transpose(1, 2, 0)


def noise(power: Any, random: Any, layout: Layout) -> Any:
    """As `house.noise_bus` does it, with another noise. [n_passages, 2, n_frames * hop]"""
    bands = layout.bands
    n_bins = bands.window // 2 + 1
    weights = band_weights(bands.n_bands, n_bins, layout.sample_rate_hz)
    scale = layout.sample_rate_hz * bands.window / 2 * 1.5
    words = jax.random.uniform(random, (*power.shape[:3], n_bins, 2), minval=-1.0, maxval=1.0)
    # Silence has no slope: a little power keeps the root's gradient finite.
    spectrum = jnp.sqrt(power @ (weights * np.float32(scale)) + 1e-16) * (words[..., 0] + 1j * words[..., 1])
    sine = np.sin(np.pi * (np.arange(bands.window) + 0.5) / bands.window).astype(np.float32)
    grains = jnp.fft.irfft(spectrum, bands.window) * sine
    halves = grains.reshape(*grains.shape[:3], 2, bands.hop)
    sound = halves[:, :, :, 0].at[:, :, 1:].add(halves[:, :, :-1, 1])
    return sound.reshape(*sound.shape[:2], -1)
