"""What a house model's networks say of each partial against what was measured in the recordings. Renders nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.analysis import KeyAnalysis, partial_frames
from pianofarm_training.distances import decay_time_s
from pianofarm_training.evaluation.notes import RANGES_S
from pianofarm_training.samples import SampleSet
from pianofarm_training.separation import weights
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.layout import Layout


@dataclass(frozen=True)
class LevelErrors:
    """Predicted against measured partial levels of some layers."""

    envelope_db: tuple[float, ...]  #: rms per range of `RANGES_S`, weighted as in training
    envelope_unweighted_db: tuple[float, ...]  #: rms per range, every cell heard counting the same
    level_db: float  #: rms over keys and layers of the level of the first half second
    decay_part: float  #: median over keys and layers of |T20 / measured T20 - 1|


def level_errors(
    parameters: dict[str, NDArray[np.float32]], analyses: list[KeyAnalysis], samples: SampleSet, layers: tuple[int, ...]
) -> LevelErrors:
    """Compare what the networks say with what was measured."""
    layout = Layout()
    time_s = (partial_frames(layout) * layout.hop / layout.sample_rate_hz).astype(np.float32)
    functions = network.time_functions(parameters, "partial", time_s, np)
    velocity = np.array(samples.velocities, np.float32)
    sums = np.zeros((2, 2, len(RANGES_S)))
    level_errors_db, decay_parts = [], []
    for key, analysis in enumerate(analyses):
        n = analysis.level_db.shape[2]
        rows = network.Rows(np.full(n, key), np.arange(n), parameters["tuning.frequency_hz"][key, :n])
        envelope_db = network.level_db(network.modes(parameters, "partial", rows, np), functions, time_s, np)
        predicted = (
            envelope_db.transpose(1, 0, 2)[:, None]
            + network.gain_db(parameters, "partial", rows, velocity, np).T[:, :, None]
        )
        weight = weights(analysis.level_db, analysis.heard)
        for layer in layers:
            error = predicted[:, layer] - analysis.level_db[:, layer]
            for index, (low, high) in enumerate(RANGES_S):
                within = (time_s >= low) & (time_s < high)
                for which, counted in enumerate((weight[:, layer], analysis.heard[:, layer])):
                    sums[0, which, index] += (counted * error**2)[..., within].sum()
                    sums[1, which, index] += counted[..., within].sum()
            power = [
                (10 ** (db[:, layer].astype(float) / 10)).sum(axis=(0, 1)) for db in (predicted, analysis.level_db)
            ]
            early = time_s < 0.5
            level_errors_db.append(10 * np.log10(power[0][early].mean() / power[1][early].mean()))
            ours_s, theirs_s = (decay_time_s(p, time_s.astype(float)) for p in power)
            decay_parts.append(abs(ours_s / theirs_s - 1))
    rms = np.sqrt(sums[0] / sums[1])
    return LevelErrors(
        envelope_db=tuple(rms[0]),
        envelope_unweighted_db=tuple(rms[1]),
        level_db=float(np.sqrt(np.mean(np.square(level_errors_db)))),
        decay_part=float(np.nanmedian(decay_parts)),
    )
