"""The context networks: notes, pedals and the piano in, one vector a frame out, chunk by chunk. No voices, no audio."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pianofarm_worker.synth.backend import bind, product, to_device, to_numpy
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.layers import (
    Weights,
    dense,
    gru,
    gru_inputs,
    gru_step,
    layer_norm,
    leaky,
    stack,
    sums,
)

_Array = NDArray[np.float32]


class ContextNetwork:
    """The context of one piano of a model."""

    def __init__(
        self, config: PublishedConfig, weights: dict[str, _Array], piano: int, kernel_dtype: str = "float32"
    ) -> None:
        film = config.context.kind == "film"
        self.normalizes = not film  #: whether the output needs the moments of the whole performance
        self._hears_notes = config.context.kind != "pedal"
        self._pitch_divisor = np.float32(config.context.pitch_divisor)
        self._n_units = config.context.n_gru
        self._n_out = config.context.n_out
        used = {name: w for name, w in weights.items() if name.startswith("context/")}
        pianos = used.pop("context/piano", np.zeros((config.n_pianos, 0), np.float32))
        used.update((_film if film else _fold)(used, pianos[piano]))
        self.weights = to_device(used, kernel_dtype)  #: the first argument of `program`
        #: (weights, heard, pedal, state) -> what `run` returns: the program itself, for a larger one.
        #: As `scan` it takes another loop than the backend's.
        self.program = self._run_film if film else self._run_normalized
        self._run = bind(self.program, self.weights)

    def initial_state(self, n_pieces: int = 1) -> Any:
        """The state before the first frame."""
        return np.zeros((n_pieces, self._n_units), np.float32)

    def run(self, notes: _Array, pedal: _Array, state: Any) -> tuple[_Array, _Array, Any]:
        """One chunk.

        Args:
            notes: [n_frames, n_voices, 2], active pitch 0..127 and onset velocity 0..1.
            pedal: [n_frames, 4], 0..1.
            state: of the chunk before, or `initial_state()`.
            Several pieces at once: notes and pedal with an axis of pieces after that of frames, and a state of as many.

        Returns:
            q [n_frames, n_context], where nothing is normalised the context itself; sums [n_frames, 1, 2]; the new state.
            Of several pieces: [n_frames, n_pieces, n_context] and [n_frames, n_pieces, 2].
        """
        q, totals, state = self._run(self.heard(notes), pedal, state)
        return to_numpy(q), to_numpy(totals), state

    def heard(self, notes: _Array) -> _Array:
        """What the network reads of the notes [..., n_voices, 2]: [..., n_inputs], scaled; none where it is deaf."""
        if not self._hears_notes:
            return np.zeros((*notes.shape[:-2], 0), np.float32)
        scaled: _Array = (notes / np.array([self._pitch_divisor, 1.0], np.float32)).astype(np.float32)
        return scaled.reshape(*notes.shape[:-2], -1)

    def _run_normalized(self, weights: Weights, notes: Any, pedal: Any, state: Any, scan: Any = ops.scan) -> Any:
        # With one row a frame the loop costs more than what is in it: only what needs the frame before stays inside.
        x = ops.concatenate([notes, pedal], axis=-1)
        n_frames, n_rows = x.shape[0], state.shape[0]
        x = leaky(dense(ops.reshape(x, (n_frames * n_rows, -1)), weights, "context/dense"))
        inputs = tuple(ops.reshape(part, (n_frames, n_rows, -1)) for part in gru_inputs(x, weights, "context/gru"))

        def step(carry: Any, x_t: Any) -> Any:
            carry = (gru_step(x_t, carry[0], weights, "context/gru"),)
            return carry, carry

        (last,), (states,) = scan(step, (state,), inputs)
        states = ops.reshape(states, (n_frames * n_rows, -1))
        q = ops.reshape(product(states, weights["context/out/kernel"]), (n_frames, n_rows, -1))
        return _as_given(q, pedal), ops.reshape(sums(states), (n_frames, n_rows, 2)), last

    def _run_film(self, weights: Weights, notes: Any, pedal: Any, state: Any, scan: Any = ops.scan) -> Any:
        # Everything inside the scan, where a frame's arithmetic cannot depend on how many frames a chunk has.
        def step(carry: Any, x_t: Any) -> Any:
            heads = [
                stack(_rows(x_t[0]), weights, "context/notes", 2),
                stack(_rows(x_t[1]), weights, "context/pedals", 2),
            ]
            x = leaky(dense(ops.concatenate(heads, axis=-1), weights, "context/dense"))
            state = gru(x, carry[-1], weights, "context/gru")
            y = leaky(layer_norm(dense(state, weights, "context/after"), weights, "context/after"))
            y = stack(y * weights["context/film/factor"] + weights["context/film/shift"], weights, "context/out", 2)
            carry = y, sums(y), state
            return carry, carry

        last, frames = scan(step, (*self._empty(state), state), (notes, pedal))
        return _as_given(frames[0], pedal), frames[1], last[-1]

    def _empty(self, state: Any) -> tuple[Any, Any]:
        return ops.zeros((state.shape[0], self._n_out)), ops.zeros((state.shape[0], 2))


def _rows(frame: Any) -> Any:
    """One frame of one piece [n] as a row, [1, n]; of several it has them."""
    return frame if len(frame.shape) == 2 else frame[None]


def _as_given(context: Any, pedal: Any) -> Any:
    """Context [n_frames, n_pieces, n_out] without the axis of pieces, where the pedal has none."""
    return context if len(pedal.shape) == 3 else context[:, 0]


def _fold(weights: dict[str, _Array], embedding: _Array) -> dict[str, _Array]:
    """The piano is constant: its product goes into the first bias; the scale before the last layer goes into its kernel."""
    folded = {"context/out/kernel": weights["context/norm/scale"][:, None] * weights["context/out/kernel"]}
    if len(embedding):
        kernel, n = weights["context/dense/kernel"], len(embedding)
        folded["context/dense/kernel"] = kernel[:-n]
        folded["context/dense/bias"] = weights["context/dense/bias"] + embedding @ kernel[-n:]
    return folded


def _film(weights: dict[str, _Array], embedding: _Array) -> dict[str, _Array]:
    """What the piano does to the context: a factor and a shift (FiLM: Perez et al., AAAI 2018)."""
    film: _Array = embedding @ weights["context/film/kernel"] + weights["context/film/bias"]
    factor, shift = np.split(film, 2)
    return {"context/film/factor": factor, "context/film/shift": shift}
