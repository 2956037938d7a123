"""How near a house model made from somebody's recordings is to them: the table of its card. Trains nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pianofarm_common.models import WEIGHTS_FILE, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training.analysis import analyse
from pianofarm_training.distances import log_spectral_distance_db
from pianofarm_training.evaluation.materials import one_note
from pianofarm_training.evaluation.notes import RANGES_S
from pianofarm_training.evaluation.partial_levels import level_errors
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.piano import HousePiano

#: Notes are compared for this long, or as long as the recording lasts.
COMPARED_S = 4.0


def measure_notes(folder: Path, samples: SampleSet, analysis_dir: Path, held_out: tuple[int, ...]) -> str:
    """Render every recorded key at the velocities of some layers and compare, as Markdown.

    Args:
        folder: of the model.
        samples: the recordings.
        analysis_dir: where their analysis is kept.
        held_out: layers that were not trained on; none: all are measured, and the table says so.
    """
    from safetensors.numpy import load_file

    layers = held_out or tuple(range(len(samples.velocities)))
    piano = HousePiano(read_model(folder))
    errors = level_errors(load_file(folder / WEIGHTS_FILE), analyse(samples, Layout(), analysis_dir), samples, layers)
    rate_hz = piano.info.sample_rate_hz
    distances, levels = [], []
    for pitch in samples.pitches:
        for layer in layers:
            recorded = read_note(samples.files[pitch, layer], rate_hz, COMPARED_S)
            note = one_note(pitch, round(samples.velocities[layer]), len(recorded) / rate_hz)
            ours = piano.render(note, RenderOptions(tail=False, dry=True), seed=1).dry / piano.output_gain
            distances += [log_spectral_distance_db(ours[:, c], recorded[:, c]) for c in range(2)]
            early = slice(0, rate_hz // 2)
            levels.append(10 * np.log10(((ours[early] ** 2).mean() + 1e-15) / ((recorded[early] ** 2).mean() + 1e-15)))
    ranges = " / ".join(f"{low * 1000:.0f}-{high * 1000:.0f}" for low, high in RANGES_S)
    envelope = " / ".join(f"{value:.2f}" for value in errors.envelope_db)
    which = ", ".join(str(layer + 1) for layer in layers)
    seen = "which training never saw" if held_out else "the very ones it was trained on: too few to hold one out"
    return f"""Layers {which} of all {len(samples.pitches)} recorded keys, {seen}:

| measure | value |
|---|---|
| partial levels over time, rms, {ranges} ms, weighted by loudness | {envelope} dB |
| level of the partials' first half second, rms over keys and layers | {errors.level_db:.2f} dB |
| decay time T20, median absolute error | {100 * errors.decay_part:.1f} % |
| log-spectral distance of rendered notes, first {COMPARED_S:g} s, both channels | {np.mean(distances):.2f} dB |
| level of the rendered notes' first half second, rms | {np.sqrt(np.mean(np.square(levels))):.2f} dB |
"""
