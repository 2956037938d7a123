"""Fits the house model's networks to analysed recordings. Reads no audio, writes no model folder.

Two networks for partials and two for noise: gains first, then the envelopes that remain once the gains are known. Adam with
a cosine schedule; the losses are Huber in dB, so that a few deep nulls of a beat do not decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.layout import Layout

from pianofarm_training.analysis import KeyAnalysis, noise_frames_s, partial_frames
from pianofarm_training.separation import Separated, separate, weights
from pianofarm_training.tuning import Tuning

Arrays = dict[str, Any]

#: Noise must stand this far above the recordings' own hiss to count as the note's.
ABOVE_HISS_DB = 6.0

#: Errors beyond this count linearly, in dB.
HUBER_DB = 3.0

#: Stretches of a note whose loudness is learned as such, seconds, and how much that counts.
LOUDNESS_SPANS_S = ((0.0, 0.05), (0.05, 0.5), (0.5, 2.0))
LOUDNESS_WEIGHT = 0.3

#: Weight of a prediction above the bound where nothing was heard.
BOUND_WEIGHT = 0.3


@dataclass(frozen=True)
class Size:
    """How large the networks are, and how long they are trained."""

    hidden: int = 160
    key_embedding: int = 24
    index_embedding: int = 16
    pair_embedding: int = 12
    time_hidden: int = 32
    gain_hidden: int = 48
    envelope_steps: int = 6000
    gain_steps: int = 2500
    joint_steps: int = 2500
    learning_rate: float = 4e-3


@dataclass(frozen=True)
class Targets:
    """What the networks of one kind ("partial" or "noise") are to learn; rows of all keys, one after another."""

    rows: network.Rows
    velocities: NDArray[np.float32]  #: [n_layers]
    time_s: NDArray[np.float32]  #: [n_frames]
    keys: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]  #: levels and what was heard, a key each
    n_indices: int


def fit(
    analyses: list[KeyAnalysis],
    velocities: list[float],
    layout: Layout,
    size: Size,
    *,
    seed: int,
    report: Callable[[str], None] = print,
) -> dict[str, NDArray[np.float32]]:
    """Learn all networks.

    Args:
        analyses: of the recorded keys, by rising pitch.
        velocities: of the layers in the analyses, softest first.
        layout: of the model.
        size: of the networks.
        seed: of their first weights; one seed gives one model on one machine.
        report: called with a line now and then.

    Returns:
        The parameters by name, float32.
    """
    parameters: Arrays = {}
    for number, targets in enumerate(
        (_partial_targets(analyses, velocities, layout), _noise_targets(analyses, velocities, layout))
    ):
        kind = ("partial", "noise")[number]
        first = [separate(level, heard) for level, heard in targets.keys]
        gain = _fit_gain(kind, targets, first, size, seed + 10 * number, report)
        parameters |= gain
        gain_db = np.asarray(network.gain_db(gain, kind, targets.rows, targets.velocities, np), np.float32)
        starts = np.cumsum([0, *(level.shape[2] for level, _ in targets.keys)])
        known = [
            separate(level, heard, gain_db[low:high], noise=kind == "noise")
            for (level, heard), low, high in zip(targets.keys, starts[:-1], starts[1:], strict=True)
        ]
        parameters |= _fit_envelope(kind, targets, known, size, seed + 10 * number + 1, report)
        if kind == "partial":
            parameters |= _fit_jointly(targets, parameters, known, size, seed + 7, report)
    return {name: np.asarray(value, np.float32) for name, value in parameters.items()}


def _partial_targets(analyses: list[KeyAnalysis], velocities: list[float], layout: Layout) -> Targets:
    frequency_hz = [Tuning(a.f0_hz, a.inharmonicity).partials_hz(len(a.offset_hz)) + a.offset_hz for a in analyses]
    return Targets(
        rows=_rows(frequency_hz),
        velocities=np.array(velocities, np.float32),
        time_s=(partial_frames(layout) * layout.hop / layout.sample_rate_hz).astype(np.float32),
        keys=[(a.level_db, a.heard) for a in analyses],
        n_indices=64,
    )


def _noise_targets(analyses: list[KeyAnalysis], velocities: list[float], layout: Layout) -> Targets:
    centres_hz = band_centres_hz(layout.bands.n_bands, layout.sample_rate_hz)
    # The hiss of the recording itself, which no velocity changes: what the softest layers of some key end in.
    hiss_db = np.min([np.median(a.noise_db[:, :4, :, -5:].mean(axis=3), axis=1) for a in analyses], axis=0)
    return Targets(
        rows=_rows([centres_hz] * len(analyses)),
        velocities=np.array(velocities, np.float32),
        time_s=noise_frames_s(layout).astype(np.float32),
        keys=[(a.noise_db, a.noise_heard & (a.noise_db > hiss_db[:, None, :, None] + ABOVE_HISS_DB)) for a in analyses],
        n_indices=layout.bands.n_bands,
    )


def _rows(frequency_hz: list[NDArray[np.float64]]) -> network.Rows:
    return network.Rows(
        key=np.concatenate([np.full(len(hz), key) for key, hz in enumerate(frequency_hz)]),
        index=np.concatenate([np.arange(len(hz)) for hz in frequency_hz]),
        frequency_hz=np.concatenate(frequency_hz).astype(np.float32),
    )


def _fit_gain(
    kind: str, targets: Targets, separated: list[Separated], size: Size, seed: int, report: Callable[[str], None]
) -> Arrays:
    measured = np.concatenate([part.gain_db for part in separated])
    weight = np.concatenate([part.gain_weight for part in separated])
    weight = weight / weight.mean()
    n_keys = len(targets.keys)
    name = f"{kind}.gain"
    start = _new_network(
        name, size, n_keys, targets.n_indices, (size.gain_hidden, size.gain_hidden), network.n_gain_splines(), seed
    )

    def loss(parameters: Arrays) -> Any:
        error = network.gain_db(parameters, kind, targets.rows, targets.velocities, jnp) - measured
        # G is known up to a constant per row, which E takes up.
        error -= (weight * error).sum(axis=1, keepdims=True) / (weight.sum(axis=1, keepdims=True) + 1e-6)
        pair = parameters[f"{name}.pair_embedding"]
        return (weight * _huber(error)).mean() + 1e-3 * (pair**2).mean()

    return _adam(loss, start, size.gain_steps, size.learning_rate, partial(_line, report, name))


def _fit_envelope(
    kind: str, targets: Targets, separated: list[Separated], size: Size, seed: int, report: Callable[[str], None]
) -> Arrays:
    measured = np.concatenate([part.envelope_db for part in separated])
    weight = np.concatenate([part.envelope_weight for part in separated])
    bound = np.concatenate([part.bound_db for part in separated])
    unheard = (weight == 0).astype(np.float32) * BOUND_WEIGHT * weight.mean()
    # Frames are about even in log(t + 50 ms): each counts for the part of that scale it covers.
    scale = np.gradient(np.log(targets.time_s + 0.05))
    weight, unheard = (array * (scale / scale.mean()).astype(np.float32) / weight.mean() for array in (weight, unheard))
    rows = targets.rows
    n_keys = len(targets.keys)
    name = f"{kind}.envelope"
    start = _new_network(
        name, size, n_keys, targets.n_indices, (size.hidden, size.hidden), network.n_outputs(), seed
    ) | _new_dense(
        f"{kind}.time",
        (3, size.time_hidden, size.time_hidden, network.N_TIME_FUNCTIONS),
        np.random.default_rng(seed + 5),
    )
    level = network.level_db if kind == "partial" else network.noise_db

    def loss(parameters: Arrays) -> Any:
        functions = network.time_functions(parameters, kind, targets.time_s, jnp)
        predicted = level(network.modes(parameters, kind, rows, jnp), functions, targets.time_s, jnp)
        above = jnp.maximum(predicted - bound, 0.0)
        return (weight * _huber(predicted - measured) + unheard * _huber(above)).mean()

    return _adam(loss, start, size.envelope_steps, size.learning_rate, partial(_line, report, name))


def _fit_jointly(
    targets: Targets,
    parameters: Arrays,
    separated: list[Separated],
    size: Size,
    seed: int,
    report: Callable[[str], None],
) -> Arrays:
    """Train envelopes and gains of partials together on the layers themselves, one layer a step, and on each key's loudness.

    A mean over partials of errors in dB leaves a note's loudness, which few partials make, to chance.
    """
    kind = "partial"
    measured = np.stack(
        [np.concatenate([level[:, v].transpose(1, 0, 2) for level, _ in targets.keys]) for v in _layers(targets)]
    )
    weight = np.stack(
        [np.concatenate([weights(*key)[:, v].transpose(1, 0, 2) for key in targets.keys]) for v in _layers(targets)]
    )
    bound = np.concatenate([part.bound_db for part in separated])
    unheard = (weight.sum(axis=0) == 0).astype(np.float32) * BOUND_WEIGHT
    scale = np.gradient(np.log(targets.time_s + 0.05)).astype(np.float32)
    weight = weight * (scale / scale.mean()) / weight.mean()
    key, n_keys = jnp.asarray(targets.rows.key), len(targets.keys)
    measured_all, weight_all, velocity_all = jnp.asarray(measured), jnp.asarray(weight), jnp.asarray(targets.velocities)
    spans = np.stack([(targets.time_s >= low) & (targets.time_s < high) for low, high in LOUDNESS_SPANS_S]).astype(
        np.float32
    )
    spans /= np.maximum(spans.sum(axis=1, keepdims=True), 1)

    def loudness_db(level: Any) -> Any:
        power = jax.ops.segment_sum(10 ** (level / 10), key, n_keys)
        return 10 * jnp.log10(jnp.matmul(power, spans.T) + 1e-12)

    def loss(parameters: Arrays, layer: Any) -> Any:
        functions = network.time_functions(parameters, kind, targets.time_s, jnp)
        envelope = network.level_db(network.modes(parameters, kind, targets.rows, jnp), functions, targets.time_s, jnp)
        gain = network.gain_db(parameters, kind, targets.rows, velocity_all[layer][None], jnp)
        predicted, wanted = envelope + gain[:, :, None], measured_all[layer]
        cells = (
            weight_all[layer] * _huber(predicted - wanted) + unheard * _huber(jnp.maximum(envelope - bound, 0.0))
        ).mean()
        return cells + LOUDNESS_WEIGHT * _huber(loudness_db(predicted) - loudness_db(wanted)).mean()

    own = {name: value for name, value in parameters.items() if name.startswith(kind)}
    order = np.random.default_rng(seed).integers(0, len(targets.velocities), size.joint_steps + 1)
    return _adam(
        loss, own, size.joint_steps, 0.3 * size.learning_rate, partial(_line, report, "partial, jointly,"), order
    )


def _layers(targets: Targets) -> range:
    return range(len(targets.velocities))


def _huber(error: Any) -> Any:
    size = jnp.abs(error)
    return jnp.where(size < HUBER_DB, 0.5 * size**2, HUBER_DB * (size - 0.5 * HUBER_DB))


def _line(report: Callable[[str], None], name: str, step: int, loss: float) -> None:
    report(f"{name} step {step} loss {loss:.4f}")


def _new_network(
    name: str, size: Size, n_keys: int, n_indices: int, hidden: tuple[int, ...], n_outputs: int, seed: int
) -> Arrays:
    rng = np.random.default_rng(seed)
    embeddings = {
        f"{name}.key_embedding": rng.normal(0, 0.3, (n_keys, size.key_embedding)),
        f"{name}.index_embedding": rng.normal(0, 0.3, (n_indices, size.index_embedding)),
        f"{name}.pair_embedding": rng.normal(0, 0.1, (n_keys, n_indices, size.pair_embedding)),
    }
    n_inputs = size.key_embedding + size.index_embedding + size.pair_embedding + 3
    return {key: jnp.asarray(value, jnp.float32) for key, value in embeddings.items()} | _new_dense(
        name, (n_inputs, *hidden, n_outputs), rng
    )


def _new_dense(name: str, widths: tuple[int, ...], rng: np.random.Generator) -> Arrays:
    parameters = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        last = layer == len(widths) - 2
        kernel = rng.normal(0, (0.3 if last else 1.2) / np.sqrt(n_in), (n_in, n_out))
        parameters[f"{name}.{layer}.kernel"] = jnp.asarray(kernel, jnp.float32)
        parameters[f"{name}.{layer}.bias"] = jnp.zeros(n_out, jnp.float32)
    return parameters


def _adam(
    loss: Callable[..., Any],
    parameters: Arrays,
    n_steps: int,
    peak_rate: float,
    report: Callable[[int, float], None],
    batches: NDArray[np.integer] | None = None,
) -> Arrays:
    """Minimise with Adam (Kingma and Ba, ICLR 2015), the rate falling along half a cosine, gradients clipped at norm 1.

    Args:
        loss: of the parameters, and of the step's batch where there are batches.
        parameters: to start from.
        n_steps: how many.
        peak_rate: highest learning rate.
        report: called with step and loss now and then.
        batches: [n_steps + 1], the batch of each step.
    """

    def step(parameters: Arrays, first: Arrays, second: Arrays, number: Any, *batch: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(parameters, *batch)
        norm = jnp.sqrt(sum((g**2).sum() for g in gradient.values()))
        scale = jnp.minimum(1.0, 1.0 / (norm + 1e-9))
        warm = jnp.minimum(1.0, number / 100.0)
        rate = peak_rate * warm * (0.5 + 0.5 * jnp.cos(jnp.pi * number / n_steps)) + 1e-6
        first = {k: 0.9 * first[k] + 0.1 * scale * gradient[k] for k in parameters}
        second = {k: 0.999 * second[k] + 0.001 * (scale * gradient[k]) ** 2 for k in parameters}
        rate = rate * jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)
        return (
            {k: parameters[k] - rate * first[k] / (jnp.sqrt(second[k]) + 1e-8) for k in parameters},
            first,
            second,
            value,
        )

    step_fast = jax.jit(step)
    first = {k: jnp.zeros_like(v) for k, v in parameters.items()}
    second = dict(first)
    value = jnp.asarray(0.0)
    for number in range(1, n_steps + 1):
        parameters, first, second, value = step_fast(
            parameters,
            first,
            second,
            jnp.asarray(number, jnp.float32),
            *(() if batches is None else (jnp.asarray(batches[number]),)),
        )
        if number % 250 == 0 or number == n_steps:
            report(number, float(value))
    return parameters
