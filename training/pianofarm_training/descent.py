"""Minimising: Adam, and the Huber loss. Knows nothing of pianos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

#: Parameters by name.
Arrays = dict[str, Any]

#: Errors beyond this count linearly, in dB.
HUBER_DB = 3.0


def huber(error: Any, below_db: float = HUBER_DB) -> Any:
    """Half the square of errors below a size, linear beyond it."""
    size = jnp.abs(error)
    return jnp.where(size < below_db, 0.5 * size**2, below_db * (size - 0.5 * below_db))


def adam(
    loss: Callable[..., Any],
    parameters: Arrays,
    n_steps: int,
    peak_rate: float,
    report: Callable[[int, float], None],
    batches: NDArray[np.integer] | Callable[[int], tuple[Any, ...]] | None = None,
    *,
    report_every: int = 250,
    checkpoint: Path | None = None,
    keep_every: int = 100,
) -> Arrays:
    """Minimise with Adam (Kingma and Ba, ICLR 2015), the rate falling along half a cosine, gradients clipped at norm 1.

    Args:
        loss: of the parameters, and of the step's batch where there are batches.
        parameters: to start from.
        n_steps: how many.
        peak_rate: highest learning rate.
        report: called with step and loss now and then.
        batches: [n_steps + 1], the batch of each step; or what makes a step's batches.
        report_every: steps.
        checkpoint: file that a killed run goes on from, with the same steps and batches; removed at the end.
        keep_every: steps from one checkpoint to the next.
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
    done = 0
    if checkpoint is not None and checkpoint.is_file():
        done, (parameters, first, second) = _restore(checkpoint)
    for number in range(done + 1, n_steps + 1):
        batch = () if batches is None else batches(number) if callable(batches) else (jnp.asarray(batches[number]),)
        parameters, first, second, value = step_fast(
            parameters, first, second, jnp.asarray(number, jnp.float32), *batch
        )
        if checkpoint is not None and number % keep_every == 0:
            _keep(checkpoint, number, parameters, first, second)
        if number % report_every == 0 or number == n_steps:
            report(number, float(value))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return parameters


def _keep(path: Path, number: int, *states: Arrays) -> None:
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    arrays = {f"{index}:{name}": np.asarray(v) for index, state in enumerate(states) for name, v in state.items()}
    np.savez(unfinished, step=number, **arrays)  # type: ignore[arg-type]  # names of arrays, not options
    unfinished.rename(path)


def _restore(path: Path) -> tuple[int, list[Arrays]]:
    states: list[Arrays] = [{}, {}, {}]
    with np.load(path) as file:
        for key in file.files:
            if ":" in key:
                index, _, name = key.partition(":")
                states[int(index)][name] = jnp.asarray(file[key])
        return int(file["step"]), states
