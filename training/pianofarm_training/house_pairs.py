"""A house model fitted to recordings with their MIDI: from a model that is there, its networks moved until the powers agree.

Compared are powers in mel bands over time, which need no sound to be made: partials put half their squared amplitudes into the
bands around their frequencies, noise its densities. What a recording does not play stays as it was, held by a spring. Tuning,
phases, knocks and the room are the start's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_training.descent import huber
from pianofarm_training.pairs import Pair
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz, band_weights
from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.score import Score, make_score

#: Mel bands compared, and the windows they are taken over, in samples.
N_BANDS, WINDOW, HOP = 64, 1024, 512

#: Notes of an excerpt; of more, those that began last are taken.
MOST_NOTES = 48

#: Notes begun longer ago are over.
LONGEST_S = 12.0

#: Powers this far below the excerpt's loudest band are silence.
FLOOR_DB = 70.0

RATE = 3e-4

#: Mean square of what a parameter moves, times this, is added to the loss (in dB).
SPRING = 30.0

_TRAINED = ("partial.", "noise.")


class Excerpt(NamedTuple):
    """Notes around some frames, and what was recorded in them."""

    key: Any  #: [n_notes], index of the nearest recorded key
    velocity: Any  #: [n_notes]
    time_s: Any  #: [n_notes, n_frames], since the onset, 0 before it
    kept: Any  #: [n_notes, n_frames], part of the power that onset and dampers leave
    power: Any  #: [2, n_frames, N_BANDS], recorded


@dataclass(frozen=True)
class Recording:
    """A whole recording in bands."""

    score: Score
    power: NDArray[np.float32]  #: [2, n_frames, N_BANDS]


def read_recordings(pairs: Sequence[Pair], limits: MidiLimits, layout: Layout) -> list[Recording]:
    """Decode pairs, both channels; a single one is repeated."""
    import soundfile
    import soxr

    weights = band_weights(N_BANDS, WINDOW // 2 + 1, layout.sample_rate_hz).T
    window = np.hanning(WINDOW).astype(np.float32)
    found = []
    for pair in pairs:
        sound, rate_hz = soundfile.read(pair.audio, dtype="float32", always_2d=True)
        sound = np.repeat(sound, 2, axis=1)[:, :2] if sound.shape[1] == 1 else sound[:, :2]
        sound = soxr.resample(sound, rate_hz, layout.sample_rate_hz, quality="HQ")
        frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW, axis=0)[::HOP]
        power = np.stack([np.abs(np.fft.rfft(frames[:, c] * window)) ** 2 for c in range(2)])
        power = (2 / (WINDOW * float((window**2).sum()))) * power @ weights
        score = make_score(read_performance(pair.midi.read_bytes(), limits), None)
        found.append(Recording(score, power.astype(np.float32)))
    return found


def excerpt(
    recording: Recording, first_frame: int, n_frames: int, pitches: NDArray[np.int_], layout: Layout
) -> Excerpt:
    """Some frames of a recording with the notes that sound in them."""
    score, rate_hz = recording.score, layout.sample_rate_hz
    middle_s = ((first_frame + np.arange(n_frames)) * HOP + WINDOW / 2) / rate_hz
    sounding = np.flatnonzero((score.onset_s < middle_s[-1]) & (score.onset_s > middle_s[0] - LONGEST_S))[-MOST_NOTES:]
    key, velocity = np.zeros(MOST_NOTES, np.int32), np.ones(MOST_NOTES, np.float32)
    time_s, kept = np.zeros((2, MOST_NOTES, n_frames), np.float32)
    damping = score.damping(sounding, middle_s[None], score.sustain.at(middle_s)[None])
    for row, note in enumerate(sounding):
        since_s = middle_s - score.onset_s[note]
        key[row] = int(np.abs(pitches - score.pitch[note]).argmin())
        velocity[row] = score.velocity[note]
        time_s[row] = np.maximum(since_s, 0.0)
        heard = np.clip(since_s * rate_hz / WINDOW + 0.5, 0.0, 1.0)
        kept[row] = heard * np.exp(-2 * damping[row])
    frames = slice(first_frame, first_frame + n_frames)
    return Excerpt(key, velocity, time_s, kept, recording.power[:, frames])


class HouseLoss:
    """How far a house model's bands are from excerpts', in dB."""

    def __init__(self, parameters: dict[str, NDArray[np.float32]], layout: Layout) -> None:
        """Take the start: its own networks are the spring's other end."""
        self.start = {name: jnp.asarray(value) for name, value in parameters.items() if name.startswith(_TRAINED)}
        self.pitches = parameters["tuning.pitch"].astype(int)
        hz = parameters["tuning.frequency_hz"].astype(float)
        is_partial = np.arange(hz.shape[1]) < parameters["tuning.n_partials"].astype(int)[:, None]
        self._frequency_hz = jnp.asarray(hz, jnp.float32)
        centres_hz = band_centres_hz(N_BANDS, layout.sample_rate_hz)
        shares = np.stack([np.interp(hz, centres_hz, row) for row in np.eye(N_BANDS)], axis=-1)
        self._shares = jnp.asarray(shares * is_partial[..., None], jnp.float32)
        self._noise_hz = jnp.asarray(band_centres_hz(layout.bands.n_bands, layout.sample_rate_hz), jnp.float32)
        n_bins = WINDOW // 2 + 1
        own, theirs = (band_weights(n, n_bins, layout.sample_rate_hz) for n in (layout.bands.n_bands, N_BANDS))
        self._spread = jnp.asarray(own @ theirs.T * (layout.sample_rate_hz / WINDOW))

    def level_db(self, batch: Excerpt) -> float:
        """How much louder excerpts are than the start plays them."""
        power = jax.jit(jax.vmap(lambda one: self._power(self.start, one)))(batch)
        return float(10 * (jnp.log10(batch.power.sum()) - jnp.log10(power.sum())))

    def __call__(self, trained: dict[str, Any], level_db: Any, batch: Excerpt) -> Any:
        """Mean Huber loss over excerpts, channels, frames and bands, and the spring.

        Args:
            trained: parameters of the networks.
            level_db: how much louder the recordings are than the model.
            batch: excerpts.
        """
        power = jax.vmap(lambda one: self._power(trained, one))(batch) * 10 ** (level_db / 10)
        floor = batch.power.max(axis=(1, 2, 3), keepdims=True) * 10 ** (-FLOOR_DB / 10) + 1e-14
        error_db = 10 * (jnp.log10(power + floor) - jnp.log10(batch.power + floor))
        n = sum(value.size for value in self.start.values())
        moved = sum(((trained[name] - value) ** 2).sum() for name, value in self.start.items()) / n
        return huber(error_db).mean() + SPRING * moved

    def _power(self, trained: dict[str, Any], one: Excerpt) -> Any:
        """Powers of one excerpt's bands. [2, n_frames, N_BANDS]"""

        def note(key: Any, velocity: Any, time_s: Any, kept: Any) -> Any:
            n = self._frequency_hz.shape[1]
            rows = network.Rows(jnp.full(n, key), jnp.arange(n), self._frequency_hz[key])
            level_db = _level_db(trained, "partial", rows, velocity, time_s, network.level_db)
            partials = 0.5 * jnp.einsum("pct,pb->ctb", 10 ** (level_db / 10), self._shares[key])
            n = len(self._noise_hz)
            rows = network.Rows(jnp.full(n, key), jnp.arange(n), self._noise_hz)
            density_db = _level_db(trained, "noise", rows, velocity, time_s, network.noise_db)
            noise = jnp.einsum("nct,nb->ctb", 10 ** (density_db / 10), self._spread)
            return (partials + noise) * kept[None, :, None]

        return jax.vmap(note)(one.key, one.velocity, one.time_s, one.kept).sum(axis=0)


def _level_db(
    trained: dict[str, Any], kind: str, rows: network.Rows, velocity: Any, time_s: Any, envelope: Callable[..., Any]
) -> Any:
    functions = network.time_functions(trained, kind, time_s, jnp)
    level_db = envelope(network.modes(trained, kind, rows, jnp), functions, time_s, jnp)
    return level_db + network.gain_db(trained, kind, rows, velocity[None], jnp)[:, :, None]


@dataclass(frozen=True)
class HouseOutcome:
    """What a run came to; losses in dB."""

    first_loss: float
    last_loss: float
    first_validation: float | None
    last_validation: float | None
    n_steps_now: int


def fit_recordings(
    parameters: dict[str, NDArray[np.float32]],
    training: Sequence[Recording],
    validation: Sequence[Recording],
    layout: Layout,
    *,
    n_steps: int,
    batch_size: int,
    excerpt_s: float,
    checkpoint_every: int,
    seed: int,
    folder: Path,
    report: Callable[[int, float], None],
) -> tuple[dict[str, NDArray[np.float32]], float, HouseOutcome]:
    """Adam from the start, or from the checkpoint that a killed run left.

    Args:
        parameters: of the model to start from.
        training: recordings, each at least an excerpt long.
        validation: held-out ones.
        layout: of the model.
        n_steps: how many.
        batch_size: excerpts a step.
        excerpt_s: length of one.
        checkpoint_every: steps.
        seed: of the choice of excerpts; with the step it decides them.
        folder: of the checkpoint.
        report: called with step and loss in dB.

    Returns:
        The networks' parameters, by how much louder than the start the recordings are in dB, and the losses.
    """
    loss = HouseLoss(parameters, layout)
    n_frames = max(1, int(excerpt_s * layout.sample_rate_hz / HOP))

    def draw(recordings: Sequence[Recording], step: int, n: int) -> Excerpt:
        rng = np.random.default_rng([seed, step])
        ends = np.cumsum([r.power.shape[1] - n_frames + 1 for r in recordings])
        found = []
        for at in rng.integers(0, ends[-1], n):
            number = int(np.searchsorted(ends, at, side="right"))
            first = int(at) - (int(ends[number - 1]) if number else 0)
            found.append(excerpt(recordings[number], first, n_frames, loss.pitches, layout))
        return Excerpt(*(np.stack(arrays) for arrays in zip(*found, strict=True)))

    level_db = loss.level_db(draw(training, 0, batch_size))
    value = jax.jit(loss)

    def step_slow(trained: Any, first: Any, second: Any, number: Any, batch: Excerpt) -> Any:
        now, gradient = jax.value_and_grad(loss)(trained, level_db, batch)
        norm = jnp.sqrt(sum((g**2).sum() for g in gradient.values()))
        scale = jnp.minimum(1.0, 1.0 / (norm + 1e-9))
        first = {k: 0.9 * first[k] + 0.1 * scale * gradient[k] for k in trained}
        second = {k: 0.999 * second[k] + 0.001 * (scale * gradient[k]) ** 2 for k in trained}
        rate = RATE * jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)
        moved = {k: trained[k] - rate * first[k] / (jnp.sqrt(second[k]) + 1e-8) for k in trained}
        return moved, first, second, now

    step_fast = jax.jit(step_slow)
    trained = dict(loss.start)
    first = {k: jnp.zeros_like(v) for k, v in trained.items()}
    second, done, losses = dict(first), 0, np.full(4, np.nan)
    checked = draw(validation, 0, 8) if validation else None
    path = folder / "checkpoint.npz"
    if path.is_file():
        with np.load(path) as file:
            trained, first, second = (
                {k: jnp.asarray(file[f"{kind}:{k}"]) for k in trained} for kind in ("p", "m", "v")
            )
            done, losses = int(file["step"]), file["losses"]
    elif checked is not None:
        losses[2] = float(value(trained, level_db, checked))
    before = done
    for step in range(done + 1, n_steps + 1):
        batch = draw(training, step, batch_size)
        trained, first, second, now = step_fast(trained, first, second, jnp.float32(step), batch)
        losses[1] = float(now)
        if step == 1:
            losses[0] = losses[1]
        report(step, losses[1])
        if step % checkpoint_every == 0 or step == n_steps:
            if checked is not None:
                losses[3] = float(value(trained, level_db, checked))
            _save(path, step, losses, {"p": trained, "m": first, "v": second})
    networks = {k: np.asarray(v, np.float32) for k, v in trained.items()}
    validated = (None, None) if checked is None else (float(losses[2]), float(losses[3]))
    outcome = HouseOutcome(float(losses[0]), float(losses[1]), validated[0], validated[1], n_steps - before)
    return networks, level_db, outcome


def _save(path: Path, step: int, losses: NDArray[np.float64], kinds: dict[str, dict[str, Any]]) -> None:
    arrays = {f"{kind}:{k}": np.asarray(v) for kind, values in kinds.items() for k, v in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("checkpoint.part.npz")
    np.savez(part, step=step, losses=losses, **arrays)  # type: ignore[arg-type]  # names of arrays
    part.rename(path)
