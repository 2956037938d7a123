"""How large the networks are, and their parameters before anything is learned."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from pianofarm_training.descent import Arrays


@dataclass(frozen=True)
class Size:
    """How large the networks are, and how long they are trained."""

    hidden: int = 160
    key_embedding: int = 24
    index_embedding: int = 16
    pair_embedding: int = 12
    time_hidden: int = 32
    gain_hidden: int = 48
    envelope_steps: int = 6000
    gain_steps: int = 2500
    joint_steps: int = 2500
    learning_rate: float = 4e-3
    # The last stages begin from what the fit has learned, whose name, made of all that is shown, they do not change.
    passage_steps: int = field(default=60, repr=False)  #: of `finetune`
    onset_steps: int = field(default=300, repr=False)  #: of `onsets`


def new_network(
    name: str, size: Size, n_keys: int, n_indices: int, hidden: tuple[int, ...], n_outputs: int, seed: int
) -> Arrays:
    """Embeddings and layers of one network.

    Args:
        name: prefix of the parameters' names.
        size: of the embeddings.
        n_keys: keys it knows.
        n_indices: partials or bands it knows.
        hidden: widths of the hidden layers.
        n_outputs: width of the last one.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    embeddings = {
        f"{name}.key_embedding": rng.normal(0, 0.3, (n_keys, size.key_embedding)),
        f"{name}.index_embedding": rng.normal(0, 0.3, (n_indices, size.index_embedding)),
        f"{name}.pair_embedding": rng.normal(0, 0.1, (n_keys, n_indices, size.pair_embedding)),
    }
    n_inputs = size.key_embedding + size.index_embedding + size.pair_embedding + 3
    return {key: jnp.asarray(value, jnp.float32) for key, value in embeddings.items()} | new_dense(
        name, (n_inputs, *hidden, n_outputs), rng
    )


def new_dense(name: str, widths: tuple[int, ...], rng: np.random.Generator) -> Arrays:
    """Fully connected layers, the last one small at first."""
    parameters = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        last = layer == len(widths) - 2
        kernel = rng.normal(0, (0.3 if last else 1.2) / np.sqrt(n_in), (n_in, n_out))
        parameters[f"{name}.{layer}.kernel"] = jnp.asarray(kernel, jnp.float32)
        parameters[f"{name}.{layer}.bias"] = jnp.zeros(n_out, jnp.float32)
    return parameters
