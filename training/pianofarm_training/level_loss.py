"""How far predicted levels of partials are from the measured ones, as one number to descend on. Trains nothing, renders nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pianofarm_training.descent import HUBER_DB, Arrays, huber
from pianofarm_training.separation import Separated, weights
from pianofarm_training.targets import Targets
from pianofarm_worker.synth.house import network

#: Stretches of a note whose loudness is learned as such, seconds, and how much that counts.
LOUDNESS_SPANS_S = ((0.0, 0.05), (0.05, 0.5), (0.5, 2.0))
LOUDNESS_WEIGHT = 0.3

#: Errors beyond this count linearly where all partials count nearly alike: as the root mean square is to be small, not before.
EVEN_HUBER_DB = 10.0

#: What comes later than this can be made to count more: long decays are furthest off.
LATE_S, LATE_WEIGHT = 0.5, 1.3

#: Weight of a prediction above the bound where nothing was heard.
BOUND_WEIGHT = 0.3


def joint_loss(
    targets: Targets, separated: Sequence[Separated], *, evenly: bool, late: bool
) -> Callable[[Arrays, Any], Any]:
    """The loss of envelopes and gains of partials together: of the parameters and the index of one layer.

    A mean over partials of errors in dB leaves a note's loudness, which few partials make, to chance: it counts, too, key by key.

    Args:
        targets: of the partials.
        separated: their parts, a key each; the bounds are taken from them.
        evenly: quiet partials count half as much as loud ones, and large errors by their square: with the weight of loudness
            alone those 60 to 80 dB down stay 3 dB off.
        late: what comes late counts more.
    """
    below_db = EVEN_HUBER_DB if evenly else HUBER_DB
    layers = range(len(targets.velocities))
    measured = np.stack([np.concatenate([level[:, v].transpose(1, 0, 2) for level, _ in targets.keys]) for v in layers])
    weight = np.stack(
        [np.concatenate([weights(*key)[:, v].transpose(1, 0, 2) for key in targets.keys]) for v in layers]
    )
    if evenly:
        weight = np.where(weight > 0, 0.5 + 0.5 * weight, 0.0).astype(np.float32)
    if late:
        weight *= np.where(targets.time_s > LATE_S, LATE_WEIGHT, 1.0).astype(np.float32)
    bound = np.concatenate([part.bound_db for part in separated])
    unheard = (weight.sum(axis=0) == 0).astype(np.float32) * BOUND_WEIGHT
    scale = np.gradient(np.log(targets.time_s + 0.05)).astype(np.float32)
    weight = weight * (scale / scale.mean()) / weight.mean()
    key, n_keys = jnp.asarray(targets.rows.key), len(targets.keys)
    measured_all, weight_all, velocity_all = jnp.asarray(measured), jnp.asarray(weight), jnp.asarray(targets.velocities)
    spans = np.stack([(targets.time_s >= low) & (targets.time_s < high) for low, high in LOUDNESS_SPANS_S]).astype(
        np.float32
    )
    spans /= np.maximum(spans.sum(axis=1, keepdims=True), 1)

    def loudness_db(level: Any) -> Any:
        power = jax.ops.segment_sum(10 ** (level / 10), key, n_keys)
        return 10 * jnp.log10(jnp.matmul(power, spans.T) + 1e-12)

    def loss(parameters: Arrays, layer: Any) -> Any:
        functions = network.time_functions(parameters, "partial", targets.time_s, jnp)
        modes = network.modes(parameters, "partial", targets.rows, jnp)
        envelope = network.level_db(modes, functions, targets.time_s, jnp)
        gain = network.gain_db(parameters, "partial", targets.rows, velocity_all[layer][None], jnp)
        predicted, wanted = envelope + gain[:, :, None], measured_all[layer]
        cells = (
            weight_all[layer] * huber(predicted - wanted, below_db)
            + unheard * huber(jnp.maximum(envelope - bound, 0.0))
        ).mean()
        return cells + LOUDNESS_WEIGHT * huber(loudness_db(predicted) - loudness_db(wanted)).mean()

    return loss
