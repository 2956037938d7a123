"""`python -m pianofarm_training.evaluate`: a house model against the recordings it was, and was not, trained on.

Held-out layers as levels (from the analysis) and as sound; passages against the sampler. Results go into the model card.
"""

from __future__ import annotations

import argparse
import functools
import operator
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance
from pianofarm_common.models import CARD_FILE, DEFAULT_MODEL, PACKAGED_DIR, WEIGHTS_FILE, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training.analysis import KeyAnalysis, analyse, partial_frames
from pianofarm_training.card import with_measurements
from pianofarm_training.data import DEFAULT_DATA_DIR
from pianofarm_training.distances import decay_time_s, log_spectral_distance_db, multi_resolution_distance
from pianofarm_training.passages import passage
from pianofarm_training.sampler import Sampler
from pianofarm_training.samples import SampleSet, read_note, salamander
from pianofarm_training.separation import weights
from pianofarm_training.train import HELD_OUT_LAYERS
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.piano import HousePiano

#: Ranges of time in which envelope errors are told apart, in seconds.
RANGES_S = ((0.0, 0.05), (0.05, 0.5), (0.5, 4.0))


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


@dataclass(frozen=True)
class NoteDistances:
    """Rendered notes against the recordings of some layers."""

    lsd_db: float  #: mean log-spectral distance
    by_register_db: tuple[float, ...]  #: the same below C3, to B4, to B6, above
    layer_below_lsd_db: float  #: that of the recorded layer below, for scale
    level_db: float  #: rms error of the first half second's level


#: Keys that begin the registers of `NoteDistances`.
REGISTERS = (21, 48, 72, 96)


def note_distances(
    piano: HousePiano, samples: SampleSet, layers: tuple[int, ...], seconds: float = 4.0
) -> NoteDistances:
    """Render every recorded key at the velocities of some layers and compare."""
    rate_hz = piano.info.sample_rate_hz
    distances: list[list[float]] = [[] for _ in REGISTERS]
    below, levels = [], []
    for pitch in samples.pitches:
        for layer in layers:
            recorded = read_note(samples.files[pitch, layer], rate_hz, seconds)
            note = one_note(pitch, round(samples.velocities[layer]), seconds)
            ours = piano.render(note, RenderOptions(tail=False), seed=1).dry / piano.output_gain
            register = sum(low <= pitch for low in REGISTERS) - 1
            distances[register] += [log_spectral_distance_db(ours[:, c], recorded[:, c]) for c in range(2)]
            softer = read_note(samples.files[pitch, layer - 1], rate_hz, seconds)
            below += [log_spectral_distance_db(softer[:, c], recorded[:, c]) for c in range(2)]
            early = rate_hz // 2
            levels.append(10 * np.log10((ours[:early] ** 2).mean() / (recorded[:early] ** 2).mean()))
    return NoteDistances(
        lsd_db=float(np.mean(functools.reduce(operator.iadd, distances, []))),
        by_register_db=tuple(float(np.mean(part)) for part in distances),
        layer_below_lsd_db=float(np.mean(below)),
        level_db=float(np.sqrt(np.mean(np.square(levels)))),
    )


def one_note(pitch: int, velocity: int, seconds: float) -> Performance:
    """A performance of one held note."""
    nothing = np.zeros(0, np.uint8)
    return Performance(
        onset_s=np.array([0.0]),
        offset_s=np.array([seconds]),
        pitch=np.array([pitch], np.uint8),
        velocity=np.array([velocity], np.uint8),
        control_s=np.zeros(0),
        control_number=nothing,
        control_value=nothing,
    )


def passage_distances(piano: HousePiano, samples: SampleSet, seeds: tuple[int, ...]) -> dict[str, float]:
    """Rendered passages against the sampler over the same recordings, both channels, loudness matched."""
    rate_hz = piano.info.sample_rate_hz
    sampler = Sampler(samples, rate_hz)
    distances, multi, onsets = [], [], []
    for seed in seeds:
        played = passage(seed)
        theirs = sampler.render(played)
        ours = piano.render(played, RenderOptions(), seed=1).dry / piano.output_gain
        n = min(len(ours), len(theirs))
        ours, theirs = ours[:n], theirs[:n]
        ours = ours * np.float32(np.sqrt((theirs**2).mean() / (ours**2).mean()))
        for channel in range(2):
            distances.append(log_spectral_distance_db(ours[:, channel], theirs[:, channel]))
            multi.append(multi_resolution_distance(ours[:, channel], theirs[:, channel]))
        for onset_s in np.unique(played.onset_s):
            at = round(onset_s * rate_hz)
            part = slice(at, at + rate_hz // 20)
            if part.stop < n:
                onsets.append(
                    abs(10 * np.log10(((ours[part] ** 2).mean() + 1e-12) / ((theirs[part] ** 2).mean() + 1e-12)))
                )
    return {
        "lsd_db": float(np.mean(distances)),
        "multi": float(np.mean(multi)),
        "onset_db": float(np.mean(onsets)),
        "onset_95_db": float(np.quantile(onsets, 0.95)),
    }


def report(errors: LevelErrors, notes: NoteDistances, passages: dict[str, float]) -> str:
    """The measurements as Markdown."""
    ranges = " / ".join(f"{low * 1000:.0f}-{high * 1000:.0f}" for low, high in RANGES_S)
    weighted = " / ".join(f"{value:.2f}" for value in errors.envelope_db)
    unweighted = " / ".join(f"{value:.2f}" for value in errors.envelope_unweighted_db)
    registers = " / ".join(f"{value:.1f}" for value in notes.by_register_db)
    held_out = ", ".join(str(layer + 1) for layer in HELD_OUT_LAYERS)
    return f"""By `python -m pianofarm_training.evaluate`; layers {held_out}, which training never saw, of all 30 recorded keys:

| measure | value |
|---|---|
| partial levels over time, rms, {ranges} ms, weighted by loudness as in training | {weighted} dB |
| the same, every partial within 80 dB of the peak counting alike | {unweighted} dB |
| level of the partials' first half second, rms over keys and layers | {errors.level_db:.2f} dB |
| decay time T20, median absolute error | {100 * errors.decay_part:.1f} % |
| log-spectral distance of rendered notes to the recordings, first 4 s, both channels | {notes.lsd_db:.2f} dB |
| the same below C3 / to B4 / to B6 / above | {registers} dB |
| the same of the recorded layer below, as it is, all keys | {notes.layer_below_lsd_db:.2f} dB |
| level of the rendered notes' first half second, rms | {notes.level_db:.2f} dB |

(Log-spectral distance: windows of 64 ms; floored 80 dB below each frame's peak; frames 60 dB below the loudest left out. Short
treble notes end in the recording's own hiss, which the model leaves out on purpose.)

Generated passages (chords, runs, repeats, pedal) against a sampler over the same recordings, with the same dampers:

| measure | value |
|---|---|
| log-spectral distance | {passages["lsd_db"]:.2f} dB |
| multi-resolution spectral distance (six windows) | {passages["multi"]:.3f} nepers |
| level of the 50 ms after each onset, mean absolute error (95 %) | {passages["onset_db"]:.2f} dB ({passages["onset_95_db"]:.2f}) |
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure a model and write the figures into its card."""
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA_DIR, help="folder of the recordings (default: data/)")
    parser.add_argument(
        "--model", type=Path, default=PACKAGED_DIR / DEFAULT_MODEL, help="model folder (default: the packaged one)"
    )
    chosen = parser.parse_args(arguments)
    from safetensors.numpy import load_file

    samples = salamander(chosen.data)
    analyses = analyse(samples, Layout(), chosen.data / "analysis")
    piano = HousePiano(read_model(chosen.model))
    measured = report(
        level_errors(load_file(chosen.model / WEIGHTS_FILE), analyses, samples, HELD_OUT_LAYERS),
        note_distances(piano, samples, HELD_OUT_LAYERS),
        passage_distances(piano, samples, seeds=(1, 2, 3)),
    )
    print(measured)
    card = chosen.model / CARD_FILE
    card.write_text(with_measurements(card.read_text(), measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
