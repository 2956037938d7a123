"""The last stage: short passages played by the model itself, end to end, against the same passages of recordings.

The sound is made as the renderer makes it (`house.network`, `house.grains`, `house.noise_bus`), in JAX, so that a spectral loss on
it reaches the networks. Reads recordings, writes no model folder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pianofarm_training.descent import Arrays, adam
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_training.spectra import spectral_loss
from pianofarm_training.watching import Watcher
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz, band_weights
from pianofarm_worker.synth.house.grains import make_basis
from pianofarm_worker.synth.house.knock import Knocks
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


@dataclass(frozen=True)
class _Known:
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
    known = _known(parameters, layout, n_hops)
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


def _known(parameters: Mapping[str, NDArray[np.float32]], layout: Layout, n_hops: int) -> _Known:
    frequency_hz = parameters["tuning.frequency_hz"].astype(float)
    n_partials = parameters["tuning.n_partials"].astype(int)
    cycles = frequency_hz[..., None] * (layout.hop / layout.sample_rate_hz) * np.arange(n_hops + 1) % 1.0
    bases = [make_basis(hz, layout.sample_rate_hz, layout.hop) for hz in frequency_hz]
    knocks = Knocks(parameters, layout.sample_rate_hz)
    tone_db = parameters.get("hiss.density_db", np.full((2, layout.bands.n_bands), -200.0, np.float32))
    return _Known(
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


def _passages(
    parameters: Arrays, known: _Known, strokes: Any, velocities: Any, random: Any, layout: Layout, n_hops: int
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
        partials = _partials(parameters, known, key, velocity, functions["partial"], time_s)
        knock = jnp.einsum("g,cgn->cn", known.knock_gain[jnp.round(velocity).astype(int)], known.knock[key])
        n_knock = min(knock.shape[1], partials.shape[1])
        partials = partials.at[:, :n_knock].add(knock[:, :n_knock])
        power = _noise_power(parameters, key, velocity, functions["noise"], noise_s, layout)
        return _later(partials, at * layout.hop), _later(power, at * (layout.hop // bands.hop), axis=1)

    sounds, powers = jax.vmap(jax.vmap(one))(strokes)
    noise = _noise(powers.sum(axis=1) + known.tone[None, :, None], random, layout)
    return (sounds.sum(axis=1) + noise).reshape(2 * len(strokes), -1)


def _partials(parameters: Arrays, known: _Known, key: Any, velocity: Any, functions: Any, time_s: Any) -> Any:
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


def _noise_power(parameters: Arrays, key: Any, velocity: Any, functions: Any, noise_s: Any, layout: Layout) -> Any:
    """[2, n_frames, n_bands], full scale^2 per Hz"""
    n = layout.bands.n_bands
    centres_hz = jnp.asarray(band_centres_hz(n, layout.sample_rate_hz), jnp.float32)
    rows = network.Rows(jnp.full(n, key), jnp.arange(n), centres_hz)
    level_db = network.noise_db(network.modes(parameters, "noise", rows, jnp), functions, noise_s, jnp)
    level_db = level_db + network.gain_db(parameters, "noise", rows, velocity[None], jnp)[:, :, None]
    return (10 ** (level_db / 10)).transpose(1, 2, 0)


def _noise(power: Any, random: Any, layout: Layout) -> Any:
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


def _later(array: Any, n: Any, axis: int = -1) -> Any:
    """Shifted along an axis, zeros moving in; what is shifted out is lost."""
    length = array.shape[axis]
    kept = jnp.arange(length) >= n
    shape = [1] * array.ndim
    shape[axis] = length
    return jnp.roll(array, n, axis=axis) * kept.reshape(shape)
