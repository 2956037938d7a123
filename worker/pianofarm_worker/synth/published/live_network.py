"""The networks of a live piano as one program a block: notes in, logits of the controls out, which `Controls` scales. No audio.

Where a model normalises by the moments of the whole performance, a stream has no whole performance. It starts from the moments of
a built-in performance and goes on averaging over what is played: the context's moments start with the weight of 10 s (they differ
little between pieces and settle slowly), those of the voices with 1 s (they settle within seconds and follow how densely somebody
plays). Frames in which nothing sounds do not count, and after a minute old ones fade.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pianofarm_worker.synth.backend import bind, to_device, to_numpy
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.context import ContextNetwork
from pianofarm_worker.synth.published.controls import Controls
from pianofarm_worker.synth.published.held_controls import unscaled
from pianofarm_worker.synth.published.layers import Weights
from pianofarm_worker.synth.published.moments import EPSILON, Moments
from pianofarm_worker.synth.published.monophonic import MonophonicNetwork, heard

_Array = NDArray[np.float32]

#: Seconds that the moments of the built-in performance count for, and seconds after which moments fade.
CONTEXT_WEIGHT_S, VOICE_WEIGHT_S, MEMORY_S = 10.0, 1.0, 60.0

#: Frames a block up to which its program has no loops; more would take many seconds to compile.
_WRITTEN_OUT = 4


class LiveNetwork:
    """The compiled program of one piano the states of its streams are arguments and results."""

    def __init__(
        self,
        config: PublishedConfig,
        weights: dict[str, _Array],
        context: ContextNetwork,
        monophonic: MonophonicNetwork,
        controls: Controls,
    ) -> None:
        self._config = config
        self._context, self._monophonic, self._controls = context, monophonic, controls
        weights_of: dict[str, Weights] = {"context": context.weights, "mono": monophonic.weights}
        self._moments = {
            name: Moments(weights, name)
            for name, network in (("context", context), ("mono", monophonic))
            if network.normalizes
        }
        for name, moments in self._moments.items():
            weights_of[f"{name}/moments"] = to_device(
                {"scale": moments.projected_scale.astype(np.float32), "offset": moments.offset.astype(np.float32)}
            )
        #: Of a state, one vector: context GRU, GRUs of the voices, mean of y and of y^2 of the context, of each voice.
        self._state_shapes: tuple[tuple[int, int], ...] = (
            context.initial_state().shape,
            monophonic.initial_state().shape,
            (1, 2),
            (config.n_voices, 2),
        )
        self._run = bind(self._program, weights_of)

    def initial_state(self) -> _Array:
        """Networks and moments before the first frame."""
        return np.zeros(sum(rows * columns for rows, columns in self._state_shapes), np.float32)

    def starting_state(self, at_rest: Any, played: Any) -> _Array:
        """The networks of one state, the moments of another: those of the voices averaged, as who played what is chance."""
        rest, moments = to_numpy(at_rest), to_numpy(played)
        n_networks = sum(rows * columns for rows, columns in self._state_shapes[:2])
        context, voices = moments[n_networks : n_networks + 2], moments[n_networks + 2 :].reshape(-1, 2)
        return np.concatenate((rest[:n_networks], context, np.tile(voices.mean(axis=0), len(voices))))

    def run(
        self, notes: _Array, pitch: NDArray[np.uint8], pedal: _Array, gains: _Array, state: Any
    ) -> tuple[_Array, _Array, Any]:
        """One block.

        Args:
            notes: [n_frames, n_voices, 2], active pitch and onset velocity.
            pitch: [n_frames, n_voices], the active pitch prolonged by the release.
            pedal: [n_frames, 4].
            gains: [n_frames, 2], what a frame counts in the moments of the context and of the voices, 0..1.
            state: of the block before.

        Returns:
            Amplitudes [n_frames, n_voices, n_partials]; power of the noise [n_frames, n_bands]; the new state.
        """
        n_frames, n_voices = pitch.shape
        # One array in, one out: each costs 10 us and more on its way to the backend and back.
        voices = heard(notes, pitch).reshape(n_frames, -1)
        inputs = np.concatenate((voices, pedal, gains, self._context.heard(notes)), axis=1)
        logits, state = self._run(inputs, state)
        amplitudes, power = self._controls.run(
            to_numpy(logits), np.ones((n_frames, n_voices), np.float32), pitch, *unscaled(n_voices)
        )
        return amplitudes.swapaxes(0, 1), power, state

    def _program(self, weights: Weights, inputs: Any, state: Any) -> Any:
        n_frames, n_voices = inputs.shape[0], self._config.n_voices
        edges = np.cumsum((3 * n_voices, 4, 2)).tolist()
        heard_voices, pedal, gains, heard_notes = ops.split(inputs, edges, axis=1)
        heard_voices = ops.reshape(heard_voices, (n_frames, n_voices, 3))
        edges = np.cumsum([rows * columns for rows, columns in self._state_shapes[:-1]]).tolist()
        parts = ops.split(state, edges)
        context_state, voice_state, context_moments, voice_moments = (
            ops.reshape(part, shape) for part, shape in zip(parts, self._state_shapes, strict=True)
        )
        context, sums, context_state = self._context.program(
            weights["context"], heard_notes, pedal, context_state, _loop
        )
        if "context" in self._moments:
            means = sums / self._moments["context"].n_channels
            factor, offset, context_moments = _affine(weights["context/moments"], means, gains[:, 0], context_moments)
            context = context * factor[:, 0] + offset[:, 0]
        q, step, sums, voice_state = self._monophonic.program(
            weights["mono"], heard_voices, context, voice_state, _loop
        )
        logits = ops.cast(q, "float32") * step[..., None]
        if "mono" in self._moments:
            means = sums / self._moments["mono"].n_channels
            factor, offset, voice_moments = _affine(weights["mono/moments"], means, gains[:, 1], voice_moments)
            logits = logits * factor + offset
        states = context_state, voice_state, context_moments, voice_moments
        return logits, ops.concatenate([ops.reshape(part, (-1,)) for part in states])


def _loop(step: Any, carry: Any, xs: Any) -> tuple[Any, Any]:
    """`keras.ops.scan`, written out for few frames: there a loop costs more than what is in it, 0.9 ms in TensorFlow."""
    n_frames = (xs[0] if isinstance(xs, tuple) else xs).shape[0]
    if n_frames > _WRITTEN_OUT:
        scanned: tuple[Any, Any] = ops.scan(step, carry, xs)
        return scanned
    frames = []
    for frame in range(n_frames):
        carry, y = step(carry, tuple(x[frame] for x in xs) if isinstance(xs, tuple) else xs[frame])
        frames.append(y)
    return carry, tuple(ops.stack(column) for column in zip(*frames, strict=True))


def _affine(weights: Weights, means: Any, gains: Any, moments: Any) -> tuple[Any, Any, Any]:
    """`Moments.affine` after every frame, each of which counts in the moments as much as its gain says.

    Args:
        weights: scale and offset of the network, projected.
        means: [n_frames, n_rows, 2], of y and of y^2 in each frame.
        gains: [n_frames].
        moments: [n_rows, 2], before the first frame.

    Returns:
        Factor [n_frames, n_rows, 1], offset [n_frames, n_rows, n_out], the moments after the last frame.
    """
    after = []
    for frame in range(means.shape[0]):
        moments = moments + gains[frame] * (means[frame] - moments)
        after.append(moments)
    mean, square = (ops.stack(after)[..., i : i + 1] for i in (0, 1))
    factor = ops.rsqrt(ops.maximum(square - mean * mean, 0.0) + EPSILON)
    return factor, weights["offset"] - mean * factor * weights["scale"], moments
