"""How near a model is to recordings whose MIDI is known: the table of its card. Trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.models import read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training.distances import log_spectral_distance_db, multi_resolution_distance
from pianofarm_training.pairs import Pair
from pianofarm_worker.synth.piano import load

#: Beginnings of recordings that are compared, and how many of them.
MEASURED_S = 20.0
MOST_MEASURED = 5


def measure_pairs(folder: Path, pairs: Sequence[Pair], names: Sequence[str], limits: MidiLimits) -> str:
    """Render the MIDI of some recordings, held-out ones where there are any, and compare, as Markdown.

    Args:
        folder: of the model.
        pairs: all of them.
        names: of the pianos, in the order of the model's numbers.
        limits: on MIDI.
    """
    import soundfile
    import soxr

    piano = load(read_model(folder))
    held_out = [pair for pair in pairs if pair.held_out]
    chosen = (held_out or list(pairs))[:MOST_MEASURED]
    rows = []
    for pair in chosen:
        with soundfile.SoundFile(pair.audio) as file:
            recorded = file.read(int(MEASURED_S * file.samplerate), dtype="float32", always_2d=True)[:, 0]
            rate_hz = file.samplerate
        theirs = soxr.resample(recorded, rate_hz, piano.info.sample_rate_hz, quality="HQ")
        options = RenderOptions(
            piano=names.index(pair.piano), duration_s=len(theirs) / piano.info.sample_rate_hz, tail=False
        )
        performance = read_performance(pair.midi.read_bytes(), limits)
        ours = piano.render(performance, options, seed=1).wet[:, 0]
        n = min(len(ours), len(theirs))
        ours, theirs = ours[:n], theirs[:n]
        level_db = 10 * np.log10(((ours**2).mean() + 1e-15) / ((theirs**2).mean() + 1e-15))
        ours = ours * np.float32(10 ** (-level_db / 20))
        distance_db, distance = log_spectral_distance_db(ours, theirs), multi_resolution_distance(ours, theirs)
        rows.append(f"| {pair.audio.name} | {distance_db:.2f} dB | {distance:.3f} nepers | {level_db:+.1f} dB |")
    seen = "held out of training" if held_out else "trained on: none was held out"
    return "\n".join(
        [
            f"The first {MEASURED_S:g} s of recordings {seen}, against renders of their MIDI at the same loudness:",
            "",
            "| recording | log-spectral distance | multi-resolution distance | level before matching |",
            "|---|---|---|---|",
            *rows,
        ]
    )
