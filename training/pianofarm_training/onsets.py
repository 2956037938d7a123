"""The stage on how loud notes begin: the first 50 ms of every recorded note as the model plays it, against the recording.

What a listener takes for a note's strength is the power of its beginning, and that is more than the sum of its partials' levels:
they interfere, the knock is among them. Reads recordings, writes no model folder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pianofarm_training.analysis import KeyAnalysis
from pianofarm_training.descent import Arrays, adam, huber
from pianofarm_training.fit import given_gain
from pianofarm_training.level_loss import joint_loss
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_training.targets import partial_targets
from pianofarm_training.voices import measured, noise_power, struck
from pianofarm_training.watching import Watcher
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.layout import Layout

#: How much of a note counts as its beginning.
ONSET_S = 0.05

#: How much an error of a beginning's level counts against the errors of the partials' levels, which must not grow.
ONSET_WEIGHT = 3.0

#: Errors beyond this count linearly: a beginning that an unsteady stroke made 3 dB too loud is not to be chased.
_ONSET_HUBER_DB = 2.0

#: Highest learning rate, a fraction of the fit's.
_RATE_PART = 0.1

#: Raised when what is learned, or how, changes: results of another version are not read.
VERSION = 1

_KEEP_EVERY = 100


def learn_onsets(
    samples: SampleSet,
    parameters: Mapping[str, NDArray[np.float32]],
    analyses: Sequence[KeyAnalysis],
    layers: Sequence[int],
    layout: Layout,
    *,
    n_steps: int,
    learning_rate: float,
    seed: int,
    stages_dir: Path,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Train the networks of partials on beginnings, one layer a step; the errors of all partials' levels count beside them.

    Args:
        samples: the recordings.
        parameters: of the model so far, all of them.
        analyses: of the recorded keys, with these layers alone.
        layers: those that may be learned from.
        layout: of the model.
        n_steps: how many.
        learning_rate: of the fit.
        seed: of the order of the layers.
        stages_dir: a folder in it, one a start, keeps checkpoints, the result and TensorBoard's log; a killed run goes on there.
        report: called with a line now and then.

    Returns:
        The parameters of the partials' networks, and the seconds that the run which finished them took.
    """
    start = hashlib.sha256(repr((VERSION, n_steps, learning_rate, seed, list(layers), layout)).encode())
    for name in sorted(parameters):
        start.update(name.encode() + np.ascontiguousarray(parameters[name]).tobytes())
    folder = stages_dir / f"onsets-{start.hexdigest()[:12]}"
    finished = folder / "finished.npz"
    if not finished.is_file():
        began = time.monotonic()
        velocities = [samples.velocities[layer] for layer in layers]
        targets = partial_targets(analyses, velocities, layout)
        first = {name: jnp.asarray(value) for name, value in parameters.items() if name.startswith("partial.")}
        levels = joint_loss(targets, given_gain("partial", targets, first), evenly=True, late=True)
        off_db = errors_db(samples, parameters, layers, layout)

        def loss(trained: Arrays, layer: Any) -> Any:
            return levels(trained, layer) + ONSET_WEIGHT * huber(off_db(trained, layer), _ONSET_HUBER_DB).mean()

        with Watcher(folder / "log") as watcher:

            def tell(step: int, value: float) -> None:
                watcher.scalar("onsets/loss", value, step)
                report(f"onsets step {step} loss {value:.4f}")

            order = np.random.default_rng((seed, 50)).integers(0, len(layers), n_steps + 1)
            found = adam(
                loss,
                first,
                n_steps,
                _RATE_PART * learning_rate,
                tell,
                order,
                report_every=50,
                checkpoint=folder / "checkpoint.npz",
                keep_every=_KEEP_EVERY,
            )
        unfinished = folder / "finished.part.npz"
        trained = {name: np.asarray(value, np.float32) for name, value in found.items()}
        np.savez(unfinished, seconds=time.monotonic() - began, **trained)  # type: ignore[arg-type]  # names of arrays
        unfinished.rename(finished)
    with np.load(finished) as file:
        return {name: file[name] for name in file.files if name != "seconds"}, float(file["seconds"])


def errors_db(
    samples: SampleSet, parameters: Mapping[str, NDArray[np.float32]], layers: Sequence[int], layout: Layout
) -> Callable[[Arrays, Any], Any]:
    """How much louder than the recordings' the beginnings of all keys are, of the networks and a layer. [n_keys], dB"""
    rate_hz = layout.sample_rate_hz
    n_samples = round(ONSET_S * rate_hz)
    n_hops = -(-n_samples // layout.hop)
    known = measured(parameters, layout, n_hops)
    time_s = jnp.arange(n_hops + 1) * (layout.hop / rate_hz)
    keys = jnp.arange(len(samples.pitches))
    velocities = jnp.asarray([samples.velocities[layer] for layer in layers], jnp.float32)
    recorded_db = jnp.asarray(_recorded_db(samples, layers, rate_hz, n_samples))
    noise = jnp.asarray(_noise_powers(parameters, np.asarray(velocities), len(samples.pitches), n_samples, layout))

    def off_db(trained: Arrays, layer: Any) -> Any:
        functions = network.time_functions(trained, "partial", time_s, jnp)

        def power(key: Any) -> Any:
            sound = struck(trained, known, key, velocities[layer], functions, time_s)[:, :n_samples]
            return (sound**2).mean()

        return 10 * jnp.log10(jax.vmap(power)(keys) + noise[:, layer]) - recorded_db[:, layer]

    return off_db


def _recorded_db(samples: SampleSet, layers: Sequence[int], rate_hz: int, n_samples: int) -> NDArray[np.float32]:
    """Levels of the recordings' beginnings, both channels' mean power. [n_keys, n_layers], dB full scale"""
    return np.array(
        [
            [
                10 * np.log10((read_note(samples.files[pitch, layer], rate_hz, 0.5)[:n_samples] ** 2).mean() + 1e-12)
                for layer in layers
            ]
            for pitch in samples.pitches
        ],
        np.float32,
    )


def _noise_powers(
    parameters: Mapping[str, NDArray[np.float32]],
    velocities: NDArray[np.float32],
    n_keys: int,
    n_samples: int,
    layout: Layout,
) -> NDArray[np.float32]:
    """Mean power of the noise of each beginning, both channels' mean. [n_keys, n_layers], full scale^2"""
    bands = layout.bands
    noise_s = np.arange(n_samples // bands.hop, dtype=np.float32) * np.float32(bands.hop / layout.sample_rate_hz)
    functions = network.time_functions(parameters, "noise", noise_s, jnp)
    width_hz = np.gradient(band_centres_hz(bands.n_bands, layout.sample_rate_hz)).astype(np.float32)
    # The bands are triangles that overlap: each holds its density times half the distance of its neighbours.
    width_hz[[0, -1]] /= 2
    trained = {name: jnp.asarray(value) for name, value in parameters.items() if name.startswith("noise.")}

    def power(key: Any, velocity: Any) -> Any:
        density = noise_power(trained, key, velocity, functions, noise_s, layout)
        return (density @ width_hz).mean()

    every_velocity = jax.vmap(power, (None, 0))
    return np.asarray(jax.vmap(every_velocity, (0, None))(jnp.arange(n_keys), jnp.asarray(velocities)), np.float32)
