"""The last stage: short passages played by the model itself, end to end, against the same passages of recordings.

The sound is made as the renderer makes it (`house.network`, `house.grains`, `house.noise_bus`), in JAX, so that a spectral loss on
it reaches the networks. Reads recordings, writes no model folder.
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

from pianofarm_training.descent import Arrays, adam
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_training.spectra import spectral_loss
from pianofarm_training.voices import Known, measured, noise, noise_power, struck
from pianofarm_training.watching import Watcher
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.layout import Layout

#: Length of a passage, and how many notes of any keys and layers begin in it, the first at once, the others at random.
PASSAGE_S, N_NOTES = 1.2, 3

#: Passages a step.
N_PASSAGES = 2

#: Level every passage of recordings is brought to, so that soft ones count as loud ones do.
_RMS = 0.1

#: Networks that are trained here.
_TRAINED = ("partial.", "noise.")

#: What the fit has learned is held by a spring: mean square of what a parameter moves, times this.
_SPRING = 30.0

#: Highest learning rate, a fraction of the fit's.
_RATE_PART = 0.05

#: Raised when what is learned, or how, changes: results of another version are not read.
VERSION = 1

#: Steps between two checkpoints.
_KEEP_EVERY = 20


def finetune(
    samples: SampleSet,
    parameters: Mapping[str, NDArray[np.float32]],
    layers: Sequence[int],
    layout: Layout,
    *,
    n_steps: int,
    learning_rate: float,
    seed: int,
    stages_dir: Path,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Train the networks of partials and noise on passages.

    Args:
        samples: the recordings.
        parameters: of the fitted model, all of them.
        layers: those that may be learned from.
        layout: of the model.
        n_steps: how many.
        learning_rate: of the fit.
        seed: of the passages and of the noise.
        stages_dir: a folder in it, one a start, keeps checkpoints, the result and TensorBoard's log; a killed run goes on there.
        report: called with a line now and then.

    Returns:
        The trained networks' parameters, and the seconds that the run which finished them took.
    """
    start = hashlib.sha256(repr((VERSION, n_steps, learning_rate, seed, list(layers), layout)).encode())
    for name in sorted(parameters):
        start.update(name.encode() + np.ascontiguousarray(parameters[name]).tobytes())
    folder = stages_dir / f"passages-{start.hexdigest()[:12]}"
    finished = folder / "finished.npz"
    if finished.is_file():
        return _finished(finished)
    began = time.monotonic()
    n_hops = int(PASSAGE_S * layout.sample_rate_hz / layout.hop)
    known = measured(parameters, layout, n_hops)
    notes = _Notes(samples, layers, layout, n_hops * layout.hop)
    velocities = np.array([samples.velocities[layer] for layer in layers], np.float32)
    first = {name: jnp.asarray(value) for name, value in parameters.items() if name.startswith(_TRAINED)}
    n_values = sum(value.size for value in first.values())

    def loss(trained: Arrays, strokes: Any, target: Any, scale: Any, number: Any) -> Any:
        sound = _passages(trained, known, strokes, jnp.asarray(velocities), jax.random.key(number), layout, n_hops)
        moved = sum(((trained[name] - value) ** 2).sum() for name, value in first.items()) / n_values
        return spectral_loss(target * scale, sound * scale) + _SPRING * moved

    def batch(number: int) -> tuple[Any, ...]:
        rng = np.random.default_rng((seed, number))
        strokes = np.stack(
            [
                rng.integers(0, len(samples.pitches), (N_PASSAGES, N_NOTES)),
                rng.integers(0, len(layers), (N_PASSAGES, N_NOTES)),
                np.sort(rng.integers(0, n_hops // 2, (N_PASSAGES, N_NOTES)), axis=1),
            ],
            axis=-1,
        )
        strokes[:, 0, 2] = 0
        target = np.concatenate([notes.passage(passage) for passage in strokes])
        scale = _RMS / np.sqrt((target**2).mean(axis=1, keepdims=True) + 1e-12)
        return strokes, target, scale.astype(np.float32), np.int32(number + 1_000_003 * seed)

    with Watcher(folder / "log") as watcher:

        def tell(step: int, value: float) -> None:
            watcher.scalar("finetune/loss", value, step)
            report(f"passages step {step} loss {value:.4f}")

        found = adam(
            loss,
            first,
            n_steps,
            _RATE_PART * learning_rate,
            tell,
            batch,
            report_every=5,
            checkpoint=folder / "checkpoint.npz",
            keep_every=_KEEP_EVERY,
        )
    unfinished = folder / "finished.part.npz"
    trained = {name: np.asarray(value, np.float32) for name, value in found.items()}
    np.savez(unfinished, seconds=time.monotonic() - began, **trained)  # type: ignore[arg-type]  # names of arrays
    unfinished.rename(finished)
    return _finished(finished)


def _finished(path: Path) -> tuple[dict[str, NDArray[np.float32]], float]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "seconds"}, float(file["seconds"])


class _Notes:
    """Recorded notes as long as a passage, read when first played."""

    def __init__(self, samples: SampleSet, layers: Sequence[int], layout: Layout, n_samples: int) -> None:
        self._samples, self._layers, self._layout, self._n_samples = samples, layers, layout, n_samples
        self._notes: dict[tuple[int, int], NDArray[np.float32]] = {}

    def passage(self, strokes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Notes added up. [2, n_samples]

        Args:
            strokes: [n_notes, 3] of key, layer and hop.
        """
        sound = np.zeros((2, self._n_samples), np.float32)
        for key, layer, hop in strokes.tolist():
            at = hop * self._layout.hop
            note = self._note(key, layer)[:, : self._n_samples - at]
            sound[:, at : at + note.shape[1]] += note
        return sound

    def _note(self, key: int, layer: int) -> NDArray[np.float32]:
        if (key, layer) not in self._notes:
            path = self._samples.files[self._samples.pitches[key], self._layers[layer]]
            self._notes[key, layer] = read_note(path, self._layout.sample_rate_hz, PASSAGE_S).T.copy()
        return self._notes[key, layer]


def _passages(
    parameters: Arrays, known: Known, strokes: Any, velocities: Any, random: Any, layout: Layout, n_hops: int
) -> Any:
    """Sound of passages. [n_passages * 2, n_hops * hop]; passage by passage, left before right"""
    bands = layout.bands
    n_noise = n_hops * layout.hop // bands.hop
    hop_s, noise_hop_s = layout.hop / layout.sample_rate_hz, bands.hop / layout.sample_rate_hz
    time_s, noise_s = jnp.arange(n_hops + 1) * hop_s, jnp.arange(n_noise) * noise_hop_s
    functions = {
        "partial": network.time_functions(parameters, "partial", time_s, jnp),
        "noise": network.time_functions(parameters, "noise", noise_s, jnp),
    }

    def one(stroke: Any) -> tuple[Any, Any]:
        """Partials and knock of a note, and the powers of its noise."""
        key, velocity, at = stroke[0], velocities[stroke[1]], stroke[2]
        sound = struck(parameters, known, key, velocity, functions["partial"], time_s)
        power = noise_power(parameters, key, velocity, functions["noise"], noise_s, layout)
        return _later(sound, at * layout.hop), _later(power, at * (layout.hop // bands.hop), axis=1)

    sounds, powers = jax.vmap(jax.vmap(one))(strokes)
    noisy = noise(powers.sum(axis=1) + known.tone[None, :, None], random, layout)
    return (sounds.sum(axis=1) + noisy).reshape(2 * len(strokes), -1)


def _later(array: Any, n: Any, axis: int = -1) -> Any:
    """Shifted along an axis, zeros moving in; what is shifted out is lost."""
    length = array.shape[axis]
    kept = jnp.arange(length) >= n
    shape = [1] * array.ndim
    shape[axis] = length
    return jnp.roll(array, n, axis=axis) * kept.reshape(shape)
