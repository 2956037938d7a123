"""The house model's networks: what a key's partials and noise bands do over time and with velocity. No audio, no files.

Every function takes the array module it computes with (`numpy` when rendering, `jax.numpy` when training), so that the
trained network and the rendering one are the same lines. Parameters are a flat mapping from names to arrays.

A level is separable, level_db(t, velocity) = E(t) + G(velocity): within 1.7 dB rms over the sixteen layers of the
Salamander Grand. E is the sum of two detuned decaying modes (the coupled strings and polarisations of Weinreich, JASA 62,
1977), whose levels, rates, detuning and phase the network gives for every partial of every recorded key, plus learned
functions of time that all partials share. G is a sum of rising splines with positive weights, hence monotonic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

#: Parameters by name; numpy or jax arrays.
Parameters = Mapping[str, Any]

#: Learned functions of time that all partials (or all bands) share.
N_TIME_FUNCTIONS = 12

#: Velocities, as parts of 127, between which the gain's splines rise.
GAIN_KNOTS = (0.0, 0.12, 0.26, 0.4, 0.55, 0.72, 0.88, 1.0)

_NEPER_DB = 8.685889638065035
_N_MODE_OUTPUTS = 3  # two rates and a detuning, the same at both microphones
_N_CHANNEL_OUTPUTS = 3 + N_TIME_FUNCTIONS  # two levels, a phase, the weights of the time functions


class Rows(NamedTuple):
    """Which partials (or bands) of which keys the network is asked about; one entry a row."""

    key: Any  #: [n_rows] int, index of the recorded key
    index: Any  #: [n_rows] int, index of the partial or band, from 0
    frequency_hz: Any  #: [n_rows]


class Modes(NamedTuple):
    """What the network says about each row."""

    rate: Any  #: [n_rows, 1, 2], nepers a second, of the two modes
    detuning: Any  #: [n_rows, 1], radians a second between them
    level: Any  #: [n_rows, 2, 2], nepers below full scale; channel, mode
    phase: Any  #: [n_rows, 2], radians of the second mode before the first
    weight: Any  #: [n_rows, 2, N_TIME_FUNCTIONS], dB


def n_outputs() -> int:
    """Outputs of the envelope networks for each row."""
    return _N_MODE_OUTPUTS + 2 * _N_CHANNEL_OUTPUTS


def modes(parameters: Parameters, kind: str, rows: Rows, xp: ModuleType) -> Modes:
    """Evaluate the envelope network.

    Args:
        parameters: of the model.
        kind: "partial" or "noise".
        rows: what to evaluate it for.
        xp: numpy or jax.numpy.
    """
    out = _network(parameters, f"{kind}.envelope", rows, xp)
    channels = out[:, _N_MODE_OUTPUTS:].reshape(-1, 2, _N_CHANNEL_OUTPUTS)
    first = -6.0 + 2.0 * channels[:, :, 0]
    levels = xp.stack([first, first - 0.75 + channels[:, :, 1]], axis=-1)
    # At least 6.9 / 40 s: nothing rings for ever, not even where no recording says how it dies.
    rates = 0.17 + xp.exp(xp.clip(out[:, :2] + xp.asarray([1.6, 0.4]), -4.0, 6.0))
    return Modes(
        rate=rates[:, None, :],
        detuning=6.2832 * xp.exp(xp.clip(out[:, 2:3] - 0.5, -4.0, 2.0)),
        level=levels,
        phase=3.0 * channels[:, :, 2],
        weight=3.0 * channels[:, :, 3:],
    )


def time_functions(parameters: Parameters, kind: str, time_s: Any, xp: ModuleType) -> Any:
    """The learned functions of time. [N_TIME_FUNCTIONS, n_times]

    They stand still from 16 s on, where the recordings they were learned from end.
    """
    time_s = xp.minimum(time_s, 16.0)
    features = (
        xp.stack([xp.log1p(time_s / 0.004) / 4, xp.log1p(time_s / 0.05) / 3, xp.log1p(time_s / 0.8)], axis=-1) - 1.0
    )
    return _dense(parameters, f"{kind}.time", features, xp, xp.tanh).T


def level_db(found: Modes, functions: Any, time_s: Any, xp: ModuleType) -> Any:
    """E: levels over time. [n_rows, 2, n_times], dB full scale at velocity 127.

    Args:
        found: of the rows.
        functions: [N_TIME_FUNCTIONS, n_times], from `time_functions`.
        time_s: [n_times], after the onset.
        xp: numpy or jax.numpy.
    """
    first = found.level[:, :, 0, None] - found.rate[:, :, 0, None] * time_s
    second = found.level[:, :, 1, None] - found.rate[:, :, 1, None] * time_s
    beat = found.detuning[:, :, None] * time_s + found.phase[:, :, None]
    top = xp.maximum(first, second)
    power = (
        xp.exp(2 * (first - top))
        + xp.exp(2 * (second - top))
        + 2 * xp.exp(first + second - 2 * top) * xp.cos(beat)
        + 1e-4
    )
    return _NEPER_DB * (top + 0.5 * xp.log(power)) + xp.matmul(found.weight, functions)


def amplitude(found: Modes, functions: Any, time_s: Any, xp: ModuleType) -> Any:
    """The same as complex amplitudes that turn as the two modes beat. [n_rows, 2, n_times]; the first mode at phase 0."""
    decay = xp.exp(found.level[..., None] - found.rate[..., None] * time_s)
    beat = found.detuning[:, :, None] * time_s + found.phase[:, :, None]
    gain = xp.exp(xp.matmul(found.weight, functions) / _NEPER_DB)
    # Not exp(1j beat): NumPy has a cosine and a sine of several numbers at a time, ten times faster.
    return gain * (decay[:, :, 0] + decay[:, :, 1] * (xp.cos(beat) + 1j * xp.sin(beat)))


def noise_db(found: Modes, functions: Any, time_s: Any, xp: ModuleType) -> Any:
    """E of noise bands: the powers of the two modes add, without beating. [n_rows, 2, n_times], dB full scale^2 per Hz."""
    first = found.level[:, :, 0, None] - found.rate[:, :, 0, None] * time_s
    second = found.level[:, :, 1, None] - found.rate[:, :, 1, None] * time_s
    return _NEPER_DB * 0.5 * xp.logaddexp(2 * first, 2 * second) - 50.0 + xp.matmul(found.weight, functions)


def gain_db(parameters: Parameters, kind: str, rows: Rows, velocity: Any, xp: ModuleType) -> Any:
    """G: what a velocity adds to the level, never falling, 0 at velocity 127. [n_rows, n_velocities], dB

    Args:
        parameters: of the model.
        kind: "partial" or "noise".
        rows: what to evaluate it for.
        velocity: [n_velocities], 0..127.
        xp: numpy or jax.numpy.
    """
    slope_db = 4.0 * xp.logaddexp(_network(parameters, f"{kind}.gain", rows, xp) + 0.5, 0.0)
    return xp.matmul(slope_db, gain_splines(velocity, xp) - 1.0)


def gain_splines(velocity: Any, xp: ModuleType) -> Any:
    """Smooth steps from 0 to 1, each over two intervals between knots. [n_splines, n_velocities]"""
    part = velocity / 127.0
    low, high = xp.asarray(GAIN_KNOTS[:-2]), xp.asarray(GAIN_KNOTS[2:])
    middle = xp.asarray(GAIN_KNOTS[1:-1])
    width = (high - low)[:, None]
    up = xp.clip(part[None, :] - low[:, None], 0.0, (middle - low)[:, None])
    down = xp.clip(high[:, None] - part[None, :], 0.0, (high - middle)[:, None])
    rising = up**2 / ((middle - low)[:, None] * width)
    falling = ((high - middle)[:, None] ** 2 - down**2) / ((high - middle)[:, None] * width)
    return rising + falling


def n_gain_splines() -> int:
    """Outputs of the gain networks for each row."""
    return len(GAIN_KNOTS) - 2


def _network(parameters: Parameters, name: str, rows: Rows, xp: ModuleType) -> Any:
    """Embeddings of the key, of the index and of the pair, and the frequency -> outputs. [n_rows, n_outputs]

    `<name>.own` [n_keys, n_indices, n_outputs], where there is one, is added: twelve numbers a pair hold less than its outputs.
    """
    octave = xp.log2(rows.frequency_hz / 1000.0 + 0.02)
    features = [
        parameters[f"{name}.key_embedding"][rows.key],
        parameters[f"{name}.index_embedding"][rows.index],
        parameters[f"{name}.pair_embedding"][rows.key, rows.index],
        xp.stack([octave / 3, octave**2 / 9, rows.index / 32.0], axis=-1),
    ]
    out = _dense(parameters, name, xp.concatenate(features, axis=-1), xp, lambda x: x / (1 + xp.exp(-x)))
    own = parameters.get(f"{name}.own")
    return out if own is None else out + own[rows.key, rows.index]


def _dense(parameters: Parameters, name: str, x: Any, xp: ModuleType, activation: Any) -> Any:
    """Fully connected layers `name.0`, `name.1`, ... with an activation between them."""
    layer = 0
    while f"{name}.{layer}.kernel" in parameters:
        if layer:
            x = activation(x)
        x = xp.matmul(x, parameters[f"{name}.{layer}.kernel"]) + parameters[f"{name}.{layer}.bias"]
        layer += 1
    return x
