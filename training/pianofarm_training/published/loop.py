"""The training loop of the published architectures: Adam over excerpts, checkpoints, a log for TensorBoard. No files of the user's.

The recipe is the published one: L1 of magnitudes and log magnitudes over six windows, an L1 penalty on learned impulse
responses, first everything but the frequencies, then the frequencies alone at a hundredth of the rate, then the rest again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pianofarm_training.excerpts import Excerpts, ExcerptSource
from pianofarm_training.published.graph import Batch, Graph
from pianofarm_training.published.spectral_loss import spectral_loss

#: Parts of the steps between which the frequencies are trained, and nothing else.
FREQUENCIES_FROM, FREQUENCIES_UNTIL = 0.45, 0.55

#: Learning rates of the two, falling by 2 % every 10,000 steps.
RATE, FREQUENCIES_RATE = 1e-3, 1e-5
_FALLS_TO, _FALLS_EVERY = 0.98, 10_000

#: Gradients are scaled down to this norm.
LARGEST_NORM = 3.0

#: Weight of the L1 norm of a learned impulse response, and of what bends the inharmonicity curves.
RESPONSE_WEIGHT, MODIFIER_WEIGHT = 0.01, 0.1

#: Names of weights that set frequencies, and of those that nothing trains.
_FREQUENCIES = "tuning/"
_FIXED = ("release_s", "tuning/slopes", "tuning/offsets")

#: Checkpoints kept.
N_KEPT = 2

_Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Plan:
    """How long and how much at a time."""

    n_steps: int
    batch_size: int  #: excerpts a step
    checkpoint_every: int  #: steps
    seed: int
    n_validation: int = 8  #: held-out excerpts that are measured at every checkpoint


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    first_loss: float  #: training loss of the first step, whatever run made it
    last_loss: float
    first_validation: float | None  #: loss on held-out excerpts before the first step; None: none were held out
    last_validation: float | None
    n_steps_now: int  #: steps of this run, those of earlier ones not counted


def run(
    graph: Graph,
    training: ExcerptSource,
    validation: ExcerptSource | None,
    plan: Plan,
    folder: Path,
    report: Callable[[int, float], None],
) -> Outcome:
    """Train, from the newest checkpoint in the folder where there is one.

    Args:
        graph: whose variables are trained.
        training: where excerpts come from.
        validation: held-out ones.
        plan: how long.
        folder: of checkpoints, and of TensorBoard's log in `log`.
        report: called with step and loss after every step.
    """
    state = _State(graph, folder)
    first = state.restore()
    checked = None if validation is None else _batch(validation.spread(plan.n_validation))
    if first == 0 and checked is not None:
        state.losses["first_validation"] = state.loss_of(checked, plan)
    writer = tf.summary.create_file_writer(str(folder / "log"))
    step = first
    with writer.as_default():
        for step in range(first + 1, plan.n_steps + 1):
            loss = float(state.descend(_batch(training.at_step(step, plan.batch_size)), step, plan))
            if not np.isfinite(loss):
                raise FloatingPointError(f"step {step}: the loss is {loss}")
            state.losses.setdefault("first", loss)
            state.losses["last"] = loss
            _scalar("loss/training", loss, step)
            report(step, loss)
            if step % plan.checkpoint_every == 0 or step == plan.n_steps:
                if checked is not None:
                    state.losses["last_validation"] = state.loss_of(checked, plan)
                    _scalar("loss/validation", state.losses["last_validation"], step)
                state.save(step)
                writer.flush()
    losses = state.losses
    return Outcome(
        first_loss=losses["first"],
        last_loss=losses["last"],
        first_validation=losses.get("first_validation"),
        last_validation=losses.get("last_validation"),
        n_steps_now=step - first,
    )


def trains_frequencies(step: int, n_steps: int) -> bool:
    """Whether a step, counted from 1, trains the frequencies and nothing else."""
    return FREQUENCIES_FROM < step / n_steps <= FREQUENCIES_UNTIL


class _State:
    """Variables, Adam's moments and losses so far, on disk and in memory."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self._graph, self._folder = graph, folder
        self.losses: dict[str, float] = {}
        trained = {name: v for name, v in graph.variables.items() if name not in _FIXED}
        self._moments = {
            name: (tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for name, v in trained.items()
        }
        self._programs = {
            frequencies: tf.function(
                self._program([n for n in trained if n.startswith(_FREQUENCIES) == frequencies], frequencies),
                autograph=False,
            )
            for frequencies in (False, True)
        }
        self._judge = tf.function(
            lambda one, seed: spectral_loss(one.sound, _sound(graph, one, seed)[0]), autograph=False
        )

    def descend(self, batch: Batch, step: int, plan: Plan) -> Any:
        """One step of Adam (Kingma and Ba, ICLR 2015); returns the loss before it."""
        frequencies = trains_frequencies(step, plan.n_steps)
        rate = (FREQUENCIES_RATE if frequencies else RATE) * _FALLS_TO ** (step / _FALLS_EVERY)
        # Tensors: a Python number would be a program of its own for every step.
        numbers = tf.constant([rate, 1 - 0.9**step, 1 - 0.999**step], tf.float32)
        return self._programs[frequencies](batch, tf.constant([plan.seed, step], tf.int32), numbers)

    def loss_of(self, batch: Batch, plan: Plan) -> float:
        """The spectral loss of excerpts as the model is, one after the other: all of them together need not fit into memory."""
        losses = []
        for excerpt in range(batch.notes.shape[0]):
            one = Batch(*(tensor[excerpt : excerpt + 1] for tensor in batch))
            losses.append(float(self._judge(one, tf.constant([plan.seed, -1 - excerpt], tf.int32))))
        return float(np.mean(losses))

    def _program(self, names: list[str], frequencies: bool) -> Callable[..., Any]:
        graph = self._graph
        variables = [graph.variables[name] for name in names]

        def step(batch: Batch, seed: Any, numbers: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                loss = _loss(graph, batch, seed, frequencies=frequencies)
            gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            gradients, _ = tf.clip_by_global_norm([tf.convert_to_tensor(g) for g in gradients], LARGEST_NORM)
            rate, first_part, second_part = tf.unstack(numbers)
            for name, variable, gradient in zip(names, variables, gradients, strict=True):
                mean, square = self._moments[name]
                mean.assign(0.9 * mean + 0.1 * gradient)
                square.assign(0.999 * square + 0.001 * tf.square(gradient))
                variable.assign_sub(rate * (mean / first_part) / (tf.sqrt(square / second_part) + 1e-7))
            return loss

        return step

    def save(self, step: int) -> None:
        """Write a checkpoint, whole or not at all; older ones go."""
        arrays: dict[str, Any] = {f"weight:{name}": v.numpy() for name, v in self._graph.variables.items()}
        for name, (mean, square) in self._moments.items():
            arrays |= {f"mean:{name}": mean.numpy(), f"square:{name}": square.numpy()}
        arrays |= {f"loss:{name}": np.float64(value) for name, value in self.losses.items()}
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / "checkpoint.part.npz"
        np.savez(part, step=step, **arrays)
        part.rename(self._folder / f"checkpoint-{step:08d}.npz")
        for old in sorted(self._folder.glob("checkpoint-*.npz"))[:-N_KEPT]:
            old.unlink()

    def restore(self) -> int:
        """Take up the newest checkpoint; returns its step, 0 where there is none."""
        found = sorted(self._folder.glob("checkpoint-*.npz"))
        if not found:
            return 0
        with np.load(found[-1]) as file:
            kinds: dict[str, dict[str, Any]] = {"weight": {}, "mean": {}, "square": {}, "loss": {}}
            for key in file.files:
                kind, _, name = key.partition(":")
                if name:
                    kinds[kind][name] = file[key]
            step = int(file["step"])
        self._graph.assign(kinds["weight"])
        for name, (mean, square) in self._moments.items():
            mean.assign(kinds["mean"][name])
            square.assign(kinds["square"][name])
        self.losses = {name: float(value) for name, value in kinds["loss"].items()}
        return step


def _batch(excerpts: Excerpts) -> Batch:
    return Batch(
        *(tf.constant(a) for a in (excerpts.notes, excerpts.pitch, excerpts.pedal, excerpts.piano, excerpts.sound))
    )


def _sound(graph: Graph, batch: Batch, seed: Any) -> Any:
    noise = tf.random.stateless_uniform([*batch.notes.shape[:2], graph.config.hop], seed, -1.0, 1.0)
    return graph.sound(batch, noise)


def _loss(graph: Graph, batch: Batch, seed: Any, *, frequencies: bool) -> Any:
    sound, response = _sound(graph, batch, seed)
    loss = spectral_loss(batch.sound, sound)
    if graph.config.reverb.kind == "impulse_response":
        loss += RESPONSE_WEIGHT * tf.reduce_sum(tf.abs(response)) / batch.notes.shape[0]
    if frequencies:
        for name in ("tuning/slopes_modifier", "tuning/offsets_modifier"):
            if name in graph.variables:
                loss += MODIFIER_WEIGHT * tf.reduce_sum(tf.abs(graph.variables[name]))
    return loss


def _scalar(tag: str, value: float, step: int) -> None:
    """`tf.summary.scalar`, which refuses to work where TensorBoard itself is not installed; the log is the same."""
    from tensorflow.compat.v1 import SummaryMetadata

    metadata = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1, display_name=tag
    )
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=metadata)


__all__ = ["Outcome", "Plan", "run", "trains_frequencies"]
