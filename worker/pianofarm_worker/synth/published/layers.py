"""The layers the published networks are made of, one frame or many, in `keras.ops`; weights are named arrays, not objects."""

from __future__ import annotations

from typing import Any

from keras import ops

from pianofarm_worker.synth.backend import product

#: Named tensors of the backend.
Weights = dict[str, Any]

#: Added to a variance by Keras' LayerNormalization.
_LAYER_NORM_EPSILON = 1e-3


def leaky(x: Any) -> Any:
    """Leaky ReLU with TensorFlow's default slope."""
    return ops.leaky_relu(x, negative_slope=0.2)


def dense(x: Any, weights: Weights, name: str) -> Any:
    """X [..., n_in] -> [..., n_out]."""
    return product(x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"]


def layer_norm(x: Any, weights: Weights, name: str) -> Any:
    """X [..., n] normalised over its last axis, then scaled and shifted."""
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + _LAYER_NORM_EPSILON) * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def stack(x: Any, weights: Weights, name: str, n_layers: int) -> Any:
    """`ddsp.training.nn.FcStack`: dense, layer normalisation, leaky ReLU, `n_layers` times."""
    for i in range(n_layers):
        x = leaky(layer_norm(dense(x, weights, f"{name}/{i}"), weights, f"{name}/{i}"))
    return x


def gru(x: Any, state: Any, weights: Weights, name: str) -> Any:
    """One step of Keras' GRU (reset after the product): x [n, n_in], state [n, n_units] -> the next state.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014.
    """
    return gru_step(gru_inputs(x, weights, name), state, weights, name)


def gru_inputs(x: Any, weights: Weights, name: str) -> tuple[Any, Any, Any]:
    """What a step of `gru` takes from x [n, n_in]: three times [n, n_units], for update, reset and candidate.

    They may be computed for many frames before the loop, which must then read three arrays: XLA does not vectorise what reads parts
    of a slice.
    """
    given = product(x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"][0]
    n = given.shape[-1] // 3
    return given[:, :n], given[:, n : 2 * n], given[:, 2 * n :]


def gru_step(inputs: tuple[Any, Any, Any], state: Any, weights: Weights, name: str) -> Any:
    """The rest of a step of `gru`: inputs from `gru_inputs`, state [n, n_units] -> the next state."""
    kept = product(state, weights[f"{name}/recurrent_kernel"]) + weights[f"{name}/bias"][1]
    n = state.shape[-1]
    update = _sigmoid(inputs[0] + kept[:, :n])
    reset = _sigmoid(inputs[1] + kept[:, n : 2 * n])
    candidate = ops.tanh(inputs[2] + reset * kept[:, 2 * n :])
    return update * state + (1.0 - update) * candidate


def _sigmoid(x: Any) -> Any:
    """The same as `ops.sigmoid`, whose exponential and division take XLA longer: the gates alone are a fifth faster with tanh."""
    return 0.5 * ops.tanh(0.5 * x) + 0.5


def sums(y: Any) -> Any:
    """[n, 2]: sum and sum of squares over the channels of y [n, n_channels].

    As products, and with two columns: the order in which TensorFlow sums rows itself depends on how many there are.
    """
    ones = ops.ones((y.shape[-1], 2))
    return ops.concatenate([ops.matmul(y, ones)[:, :1], ops.matmul(y * y, ones)[:, :1]], axis=-1)
