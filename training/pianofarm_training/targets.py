"""What the networks are to learn, laid out in rows: one a partial or band, those of all keys one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.analysis import KeyAnalysis, noise_frames_s, partial_frames
from pianofarm_training.tuning import Tuning
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.layout import Layout

#: Noise must stand this far above the recordings' own hiss to count as the note's.
ABOVE_HISS_DB = 6.0

#: A key's own estimate of the hiss is believed up to this far above the quietest key's.
HISS_RANGE_DB = 12.0


@dataclass(frozen=True)
class Targets:
    """What the networks of one kind ("partial" or "noise") are to learn; rows of all keys, one after another."""

    rows: network.Rows
    velocities: NDArray[np.float32]  #: [n_layers]
    time_s: NDArray[np.float32]  #: [n_frames]
    keys: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]  #: levels and what was heard, a key each
    n_indices: int


def partial_targets(analyses: Sequence[KeyAnalysis], velocities: Sequence[float], layout: Layout) -> Targets:
    """Levels of the partials."""
    frequency_hz = [Tuning(a.f0_hz, a.inharmonicity).partials_hz(len(a.offset_hz)) + a.offset_hz for a in analyses]
    return Targets(
        rows=_rows(frequency_hz),
        velocities=np.array(velocities, np.float32),
        time_s=(partial_frames(layout) * layout.hop / layout.sample_rate_hz).astype(np.float32),
        keys=[(a.level_db, a.heard) for a in analyses],
        n_indices=64,
    )


def noise_targets(analyses: Sequence[KeyAnalysis], velocities: Sequence[float], layout: Layout) -> Targets:
    """Levels of the noise bands."""
    centres_hz = band_centres_hz(layout.bands.n_bands, layout.sample_rate_hz)
    # The recordings' own hiss, which no velocity changes: what the softest layers end in.
    quietest_db = [np.median(a.noise_db[:, :4, :, -5:].mean(axis=3), axis=1) for a in analyses]
    least_db = np.min(quietest_db, axis=0)
    hiss_db = [
        np.minimum(quiet_db, least_db + HISS_RANGE_DB)[:, None, :, None] + ABOVE_HISS_DB for quiet_db in quietest_db
    ]
    return Targets(
        rows=_rows([centres_hz] * len(analyses)),
        velocities=np.array(velocities, np.float32),
        time_s=noise_frames_s(layout).astype(np.float32),
        keys=[(a.noise_db, a.noise_heard & (a.noise_db > hiss)) for a, hiss in zip(analyses, hiss_db, strict=True)],
        n_indices=layout.bands.n_bands,
    )


def release_targets(release_db: Sequence[NDArray[np.float32]], time_s: NDArray[np.float32], layout: Layout) -> Targets:
    """Levels of the release noises' bands, which no velocity changes.

    Args:
        release_db: [2, n_bands, n_frames] each, a key each, lowest first.
        time_s: [n_frames], after the key is let go.
        layout: of the model.
    """
    centres_hz = band_centres_hz(layout.bands.n_bands, layout.sample_rate_hz)
    levels = [db[:, None] for db in release_db]
    return Targets(
        rows=_rows([centres_hz] * len(levels)),
        velocities=np.array([127.0], np.float32),
        time_s=time_s,
        keys=[(level, level > level.max() - 60.0) for level in levels],
        n_indices=layout.bands.n_bands,
    )


def _rows(frequency_hz: list[NDArray[np.float64]]) -> network.Rows:
    return network.Rows(
        key=np.concatenate([np.full(len(hz), key) for key, hz in enumerate(frequency_hz)]),
        index=np.concatenate([np.arange(len(hz)) for hz in frequency_hz]),
        frequency_hz=np.concatenate(frequency_hz).astype(np.float32),
    )
