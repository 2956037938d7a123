"""The monophonic networks: notes of each voice and the context in, raw controls of each voice out, chunk by chunk.

A scan over blocks of frames, in which all rows of a block are projected by one product, and in it a scan over frames for what needs
the frame before: products of many rows run at 100 GFLOP/s where those of a frame's 16 make 75, and a block's rows, other than a
chunk's, fit into the cache. The weights are arguments of the program: as captured constants it is half as fast. The state is
carried over the chunks, so that any length needs the memory of one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pianofarm_worker.synth.backend import bind, product, to_device, to_numpy
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.layers import Weights, dense, gru, gru_inputs, gru_step, leaky, stack, sums

_Array = NDArray[np.float32]

_MIDI_NORM = np.float32(128.0)
_LARGEST = 32767.0

#: Frames whose projections are computed at once, in chunks that are so many long: a kernel is read once for all of them, and their
#: rows stay in the cache. With two voices they are a hundred rows; libraries sum products of less than some 64 in another order.
BLOCK_FRAMES = 50


@dataclass(frozen=True)
class RawControls:
    """A chunk of the network's output, before the moments of the performance (where the model has any) and the scaling.

    Where it has to wait for the moments it is held in half the memory, each row with a step of its own. In dafx22 that rounds a
    logit by 1.3e-4 (rms), which moves a partial by 0.03 %: -70 dB.
    """

    q: NDArray[Any]  #: [n_frames, n_voices, n_controls]: float32, or int16 in units of `step`
    step: _Array  #: [n_frames, n_voices]; 1 where q is float32
    sums: _Array  #: [n_frames, n_voices, 2], sums of y and y^2 over the channels (`Moments`)

    def cut(self, n_frames: int) -> RawControls:
        """The first frames only."""
        return RawControls(self.q[:n_frames], self.step[:n_frames], self.sums[:n_frames])


def heard(notes: _Array, pitch: NDArray[np.uint8]) -> _Array:
    """What the networks read of notes [n_frames, n_voices, 2] and prolonged pitches: [n_frames, n_voices, 3], scaled."""
    read = np.concatenate([pitch[..., None].astype(np.float32), notes], axis=-1)
    read /= np.array([_MIDI_NORM, _MIDI_NORM, 1.0], np.float32)
    return read


class MonophonicNetwork:
    """The network that drives the voices of a model, the same for every piano."""

    def __init__(self, config: PublishedConfig, weights: dict[str, _Array], kernel_dtype: str = "float32") -> None:
        self.kernel_dtype = kernel_dtype
        self.normalizes = config.monophonic.normalize  #: whether the output needs the moments of the whole performance
        self._n_layers = config.monophonic.n_layers
        self._n_units = config.monophonic.n_gru
        self._n_voices = config.n_voices
        self._n_out = config.n_controls
        used = {name: w for name, w in weights.items() if name.startswith("mono/")}
        if self.normalizes:
            used["mono/out/kernel"] = weights["mono/norm/scale"][:, None] * weights["mono/out/kernel"]
        stacks = config.monophonic.kind == "stacks"
        if not stacks:
            kernel = weights["mono/dense/kernel"]
            used["mono/dense/notes/kernel"], used["mono/dense/kernel"] = kernel[:3], kernel[3:]
        self.weights = to_device(used, kernel_dtype)  #: the first argument of `program`
        #: (weights, heard, context, state) -> (q, step, sums, state): the program itself, for a larger one.
        #: As `scan` it takes another loop than the backend's.
        self.program = self._run_stacks if stacks else self._run_dense
        self._run = bind(self.program, self.weights)

    def initial_state(self, n_voices: int | None = None) -> Any:
        """The state before the first frame, of all voices or of a group of them."""
        return np.zeros((n_voices or self._n_voices, self._n_units), np.float32)

    def run(self, notes: _Array, pitch: NDArray[np.uint8], context: _Array, state: Any) -> tuple[RawControls, Any]:
        """One chunk.

        Args:
            notes: [n_frames, n_voices, 2], active pitch 0..127 and onset velocity 0..1.
            pitch: [n_frames, n_voices], the active pitch prolonged by the release.
            context: [n_frames, n_context], shared by all voices; or [n_frames, n_pieces, n_context], where the voices
                are those of one piece after the other.
            state: of the chunk before, or `initial_state()`.
        """
        q, step, totals, state = self._run(heard(notes, pitch), context, state)
        return RawControls(to_numpy(q), to_numpy(step), to_numpy(totals)), state

    def _run_dense(self, weights: Weights, heard: Any, context: Any, state: Any, scan: Any = ops.scan) -> Any:
        base = ops.expand_dims(dense(context, weights, "mono/dense"), -2)  # [n_frames, (n_pieces,) 1, n_dense]
        n_frames, n_rows, n = heard.shape[0], state.shape[0], BLOCK_FRAMES
        if n_frames % n:
            return self._run_block(weights, heard, base, state, scan)

        def block(carry: Any, x_t: Any) -> Any:
            heard, base = x_t
            *parts, state = self._run_block(weights, heard, base, carry[-1], scan)
            carry = (*(ops.reshape(part, (n * n_rows, *part.shape[2:])) for part in parts), state)
            return carry, carry

        blocks = tuple(ops.reshape(part, (n_frames // n, n, *part.shape[1:])) for part in (heard, base))
        *parts, state = self._scan(ops.scan, block, blocks, state, n * n_rows)
        return *(ops.reshape(part, (n_frames, n_rows, *part.shape[2:])) for part in parts), state

    def _run_block(self, weights: Weights, heard: Any, base: Any, state: Any, scan: Any) -> Any:
        """Some frames whose products have rows of all of them, but for that with the state."""
        n, n_rows = heard.shape[:2]
        x = product(ops.reshape(heard, (n * n_rows, -1)), weights["mono/dense/notes/kernel"])
        x = ops.reshape(leaky(ops.reshape(x, (*base.shape[:-2], -1, base.shape[-1])) + base), (n * n_rows, -1))
        inputs = tuple(ops.reshape(part, (n, n_rows, -1)) for part in gru_inputs(x, weights, "mono/gru"))

        def step(carry: Any, x_t: Any) -> Any:
            carry = (gru_step(x_t, carry[0], weights, "mono/gru"),)
            return carry, carry

        (state,), (states,) = scan(step, (state,), inputs)
        y = leaky(dense(ops.reshape(states, (n * n_rows, -1)), weights, "mono/after"))
        return *(ops.reshape(part, (n, n_rows, *part.shape[1:])) for part in self._out(y, weights)), state

    def _run_stacks(self, weights: Weights, heard: Any, context: Any, state: Any, scan: Any = ops.scan) -> Any:
        n = self._n_layers

        def step(carry: Any, x_t: Any) -> Any:
            pitch = stack(x_t[0][:, :1], weights, "mono/pitch", n)
            notes = stack(x_t[0][:, 1:], weights, "mono/notes", n)
            shared = stack(x_t[1] if len(x_t[1].shape) == 2 else x_t[1][None], weights, "mono/context", n)
            x = ops.concatenate([pitch, notes, _for_rows(shared, notes.shape[0])], axis=-1)
            state = gru(x, carry[-1], weights, "mono/gru")
            y = stack(ops.concatenate([x, state], axis=-1), weights, "mono/after", n)
            carry = (*self._out(y, weights), state)
            return carry, carry

        return self._scan(scan, step, (heard, context), state, state.shape[0])

    def _out(self, y: Any, weights: Weights) -> tuple[Any, Any, Any]:
        """The last layer: q, step, sums, a row for each of y [n_rows, n]."""
        if not self.normalizes:
            return dense(y, weights, "mono/out"), ops.ones(y.shape[:1]), sums(y)
        q = product(y, weights["mono/out/kernel"])
        step = ops.maximum(ops.max(ops.abs(q), axis=-1), 1e-30) / _LARGEST
        return ops.cast(ops.round(q / step[:, None]), "int16"), step, sums(y)

    def _scan(self, scan: Any, step: Any, xs: Any, state: Any, n_rows: int) -> Any:
        # On the TensorFlow backend the outputs of a scan must have the structure and shapes of its carry: so they are its carry.
        q = ops.zeros((n_rows, self._n_out), dtype="int16" if self.normalizes else "float32")
        carry = q, ops.zeros((n_rows,)), ops.zeros((n_rows, 2)), state
        last, frames = scan(step, carry, xs)
        return frames[0], frames[1], frames[2], last[-1]


def _for_rows(shared: Any, n_rows: int) -> Any:
    """What the voices of each piece share, [n_pieces, n], for every row [n_rows, n]; a vector [n] is for all as it is."""
    if len(shared.shape) == 1:
        return shared
    n_pieces, n = shared.shape
    return ops.broadcast_to(shared, (n_rows, n)) if n_pieces == 1 else ops.repeat(shared, n_rows // n_pieces, axis=0)
