"""Levels of a key's layers -> a part of time and a part of velocity: level = E(time) + G(layer). Networks come after.

Alternating weighted means; six rounds are enough (the change of the last is below 0.01 dB).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_ROUNDS = 6


@dataclass(frozen=True)
class Separated:
    """The two parts of a key's levels; partials or noise bands."""

    gain_db: NDArray[np.float32]  #: [n_rows, n_layers], G up to a constant per row
    gain_weight: NDArray[np.float32]  #: [n_rows, n_layers]
    envelope_db: NDArray[np.float32]  #: [n_rows, 2, n_frames], E
    envelope_weight: NDArray[np.float32]  #: [n_rows, 2, n_frames], 0 where nothing was heard
    bound_db: NDArray[np.float32]  #: [n_rows, 2, n_frames], what the loudest layers show, heard or not; E stays below


def weights(level_db: NDArray[np.float32], heard: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much each level counts: in proportion to its dB above the note's peak less 80. The shape of `level_db`."""
    peak_db = level_db.max(axis=(2, 3), keepdims=True)
    return np.asarray(np.clip((level_db - peak_db + 80) / 80, 0.02, 1.0) * heard, np.float32)


def separate(
    level_db: NDArray[np.float32],
    heard: NDArray[np.bool_],
    gain_db: NDArray[np.float32] | None = None,
    *,
    noise: bool = False,
) -> Separated:
    """Separate the levels of one key.

    Args:
        level_db: [2, n_layers, n_rows, n_frames].
        heard: the same shape.
        gain_db: [n_rows, n_layers], G where it is known already; then only E is taken.
        noise: average powers over the layers, not dB: the levels of a noise scatter so much within one frame that a mean of
            dB would be up to 2.5 dB too low.
    """
    weight = weights(level_db, heard)
    gain = np.zeros((level_db.shape[2], level_db.shape[1]), np.float32) if gain_db is None else gain_db
    if gain_db is None:  # start from the layers' overall levels
        gain += (10 * np.log10((10 ** (level_db / 10)).sum(axis=(0, 2, 3)) + 1e-20)).astype(np.float32)
    # G is what the loud parts of a note say: quiet ones are heard at loud velocities only, which would flatten it.
    loud = np.clip(weight - 0.35, 0.02 * weight, None)
    envelope = _envelope(level_db, weight, gain)
    for _ in range(0 if gain_db is not None else N_ROUNDS):
        rest = level_db - envelope.transpose(1, 0, 2)[:, None]
        total = loud.sum(axis=(0, 3))
        found = (loud * rest).sum(axis=(0, 3)) / np.maximum(total, 1e-6)
        gain = np.where(total.T > 1e-3, found.T, gain).astype(np.float32)
        envelope = _envelope(level_db, weight, gain)
    loudest = (level_db - gain.T[None, :, :, None])[:, -4:]
    envelope_weight = weight.mean(axis=1)
    if noise:
        # All layers' power over all layers' gain: soft layers, which drown in hiss first, weigh little. Heard is what most of
        # the loudest layers say.
        ratio = (10 ** (level_db / 10)).sum(axis=1) / ((10 ** (gain / 10)).sum(axis=1)[None, :, None] + 1e-12)
        envelope = (10 * np.log10(ratio + 1e-24)).transpose(1, 0, 2).astype(np.float32)
        envelope_weight = envelope_weight * (heard[:, -4:].mean(axis=1) >= 0.5)
    # Where a noise is not heard, what is measured is hiss, of which a chord must not pile up a note's worth each.
    bound = np.median(loudest, axis=1) - (6.0 if noise else 0.0)
    lowest_db = -160.0 if noise else -120.0
    return Separated(
        gain_db=gain,
        gain_weight=loud.sum(axis=(0, 3)).T,
        envelope_db=envelope,
        envelope_weight=envelope_weight.transpose(1, 0, 2),
        bound_db=np.asarray(np.maximum(bound, lowest_db).transpose(1, 0, 2), np.float32),
    )


def _envelope(
    level_db: NDArray[np.float32], weight: NDArray[np.float32], gain: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weighted mean over the layers of level less gain. [n_rows, 2, n_frames]"""
    rest = (weight * (level_db - gain.T[None, :, :, None])).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-6)
    return np.asarray(rest.transpose(1, 0, 2), np.float32)
