"""Fits the house model's networks to analysed recordings. Reads no audio, writes no model folder.

Two networks for partials and two for noise: gains first, then the envelopes that remain once the gains are known. Adam with
a cosine schedule; the losses are Huber in dB, so that a few deep nulls of a beat do not decide.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pianofarm_training.analysis import KeyAnalysis
from pianofarm_training.descent import Arrays, adam, huber
from pianofarm_training.initial import Size, new_dense, new_network
from pianofarm_training.level_loss import BOUND_WEIGHT, joint_loss
from pianofarm_training.separation import Separated, separate
from pianofarm_training.targets import Targets, noise_targets, partial_targets, release_targets
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.layout import Layout

#: Descents, each from where the one before ended with a fresh learning rate, in which all partials count nearly alike.
#: In the last one every partial gets outputs of its own beside the network's, and what comes late counts more.
EVEN_TURNS = 3

#: Length of that last descent, a part of the others': outputs of their own settle fast.
LAST_TURN_PART = 0.4

#: Raised when what is learned, or how, changes: stages of another version are not taken up again.
VERSION = 5


def fit(
    analyses: Sequence[KeyAnalysis],
    velocities: Sequence[float],
    release_db: Sequence[NDArray[np.float32]],
    release_s: NDArray[np.float32],
    layout: Layout,
    size: Size,
    *,
    seed: int,
    stages_dir: Path,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Learn all networks, one after another; each is kept when done, so that a killed run goes on where it was.

    Args:
        analyses: of the recorded keys, by rising pitch.
        velocities: of the layers in the analyses, softest first.
        release_db: of the release noises, as `targets.release_targets` takes them; empty where none were recorded.
        release_s: their times.
        layout: of the model.
        size: of the networks.
        seed: of their first weights; one seed gives one model on one machine.
        stages_dir: where finished networks are kept.
        report: called with a line now and then.

    Returns:
        The parameters by name, float32; and the seconds spent on them, those of earlier runs included.
    """
    run = hashlib.sha256(repr((VERSION, size, seed, list(velocities), [a.pitch for a in analyses], layout)).encode())
    folder = stages_dir / run.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)

    parameters: Arrays = {}
    seconds = 0.0

    def stage(name: str, learn: Callable[[], Arrays]) -> Arrays:
        nonlocal seconds
        path = folder / f"{name}.npz"
        if not path.is_file():
            started = time.monotonic()
            learned: dict[str, Any] = {key: np.asarray(value, np.float32) for key, value in learn().items()}
            unfinished = folder / f"{name}.part.npz"
            np.savez(unfinished, seconds=time.monotonic() - started, **learned)
            unfinished.rename(path)
        with np.load(path) as file:
            seconds += float(file["seconds"])
            return {key: value for key, value in file.items() if key != "seconds"}

    partials, noise = partial_targets(analyses, velocities, layout), noise_targets(analyses, velocities, layout)
    for number, (kind, targets) in enumerate((("partial", partials), ("noise", noise))):
        first = [separate(level, heard) for level, heard in targets.keys]
        gain = stage(f"{kind}-gain", partial(_fit_gain, kind, targets, first, size, seed + 10 * number, report))
        known = given_gain(kind, targets, gain)
        envelope = stage(
            f"{kind}-envelope", partial(_fit_envelope, kind, targets, known, size, seed + 10 * number + 1, report)
        )
        parameters |= gain | envelope
        if kind == "partial":
            parameters |= stage(
                "partial-jointly", partial(_fit_jointly, targets, dict(parameters), known, size, seed + 7, report)
            )
            for turn in range(EVEN_TURNS):
                if turn == EVEN_TURNS - 1:
                    n_own = (len(targets.keys), targets.n_indices, network.n_outputs())
                    parameters["partial.envelope.own"] = np.zeros(n_own, np.float32)
                again = partial(
                    _fit_jointly, targets, dict(parameters), known, size, seed + 8 + turn, report, evenly=True
                )
                parameters |= stage(f"partial-evenly-{turn + 1}", again)
    if len(release_db):
        targets = release_targets(release_db, release_s, layout)
        known = [
            separate(level, heard, np.zeros(level.shape[2:0:-1], np.float32), noise=True)
            for level, heard in targets.keys
        ]
        parameters |= stage("release", partial(_fit_envelope, "release", targets, known, size, seed + 30, report))
    return {name: np.asarray(value, np.float32) for name, value in parameters.items()}, seconds


def given_gain(kind: str, targets: Targets, gain: Arrays) -> list[Separated]:
    """The envelopes that the levels leave once the gains are known, a key each; `gain` holds the gain network's parameters."""
    gain_db = np.asarray(network.gain_db(gain, kind, targets.rows, targets.velocities, np), np.float32)
    starts = np.cumsum([0, *(level.shape[2] for level, _ in targets.keys)])
    return [
        separate(level, heard, gain_db[low:high], noise=kind == "noise")
        for (level, heard), low, high in zip(targets.keys, starts[:-1], starts[1:], strict=True)
    ]


def _fit_gain(
    kind: str, targets: Targets, separated: list[Separated], size: Size, seed: int, report: Callable[[str], None]
) -> Arrays:
    measured = np.concatenate([part.gain_db for part in separated])
    weight = np.concatenate([part.gain_weight for part in separated])
    weight = weight / weight.mean()
    n_keys = len(targets.keys)
    name = f"{kind}.gain"
    start = new_network(
        name, size, n_keys, targets.n_indices, (size.gain_hidden, size.gain_hidden), network.n_gain_splines(), seed
    )

    def loss(parameters: Arrays) -> Any:
        error = network.gain_db(parameters, kind, targets.rows, targets.velocities, jnp) - measured
        # G is known up to a constant per row, which E takes up.
        error -= (weight * error).sum(axis=1, keepdims=True) / (weight.sum(axis=1, keepdims=True) + 1e-6)
        pair = parameters[f"{name}.pair_embedding"]
        return (weight * huber(error)).mean() + 1e-3 * (pair**2).mean()

    return adam(loss, start, size.gain_steps, size.learning_rate, partial(_line, report, name))


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
    start = new_network(
        name, size, n_keys, targets.n_indices, (size.hidden, size.hidden), network.n_outputs(), seed
    ) | new_dense(
        f"{kind}.time",
        (3, size.time_hidden, size.time_hidden, network.N_TIME_FUNCTIONS),
        np.random.default_rng(seed + 5),
    )
    level = network.level_db if kind == "partial" else network.noise_db

    def loss(parameters: Arrays) -> Any:
        functions = network.time_functions(parameters, kind, targets.time_s, jnp)
        predicted = level(network.modes(parameters, kind, rows, jnp), functions, targets.time_s, jnp)
        above = jnp.maximum(predicted - bound, 0.0)
        return (weight * huber(predicted - measured) + unheard * huber(above)).mean()

    return adam(loss, start, size.envelope_steps, size.learning_rate, partial(_line, report, name))


def _fit_jointly(
    targets: Targets,
    parameters: Arrays,
    separated: list[Separated],
    size: Size,
    seed: int,
    report: Callable[[str], None],
    *,
    evenly: bool = False,
) -> Arrays:
    """Train envelopes and gains of partials together on the layers themselves, one a step; loud partials first, then `evenly`."""
    is_last = "partial.envelope.own" in parameters
    loss = joint_loss(targets, separated, evenly=evenly, late=is_last)
    own = {name: value for name, value in parameters.items() if name.startswith("partial.")}
    n_steps = round(size.joint_steps * (LAST_TURN_PART if is_last else 1.0))
    order = np.random.default_rng(seed).integers(0, len(targets.velocities), n_steps + 1)
    name = "partial, evenly," if evenly else "partial, jointly,"
    return adam(loss, own, n_steps, 0.3 * size.learning_rate, partial(_line, report, name), order)


def _line(report: Callable[[str], None], name: str, step: int, loss: float) -> None:
    report(f"{name} step {step} loss {loss:.4f}")
