"""`python -m pianofarm_training.train`: recordings -> analysis -> fit -> model folder. The steps are in the modules beside it."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR
from pianofarm_training.analysis import KeyAnalysis, analyse
from pianofarm_training.card import model_card
from pianofarm_training.clock import Clock, machine
from pianofarm_training.data import DEFAULT_DATA_DIR
from pianofarm_training.export import export, tuning_parameters
from pianofarm_training.knock import measure, without_knocks
from pianofarm_training.releases import release_levels
from pianofarm_training.room import CENTRES_HZ, decay_times_s
from pianofarm_training.samples import SampleSet, salamander
from pianofarm_training.tone import room_tone_db
from pianofarm_worker.synth.house.layout import Layout

#: Layers the networks never see, so that the measurements mean something; indices, softest first.
HELD_OUT_LAYERS = (3, 7, 11)

#: Taken off every render, so that dense pieces do not clip: the recordings peak at -1.4 dB full scale for a single loud note.
OUTPUT_GAIN_DB = -9.0


#: Energy of the room's answer below the sound itself. Its decay is measured; how much of it to add is a choice.
ROOM_LEVEL_DB = -16.0

#: What the room is taken to be where no release noises were recorded: a small studio, T60 in seconds.
TYPICAL_T60_S = 0.5


def without_layers(analysis: KeyAnalysis, held_out: tuple[int, ...]) -> KeyAnalysis:
    """An analysis less some layers."""
    kept = [layer for layer in range(analysis.level_db.shape[1]) if layer not in held_out]
    return replace(
        analysis,
        level_db=analysis.level_db[:, kept],
        heard=analysis.heard[:, kept],
        noise_db=analysis.noise_db[:, kept],
        noise_heard=analysis.noise_heard[:, kept],
    )


def train(
    samples: SampleSet,
    work_dir: Path,
    folder: Path,
    *,
    name: str,
    licence: str,
    seed: int,
    size: Any = None,
    held_out: tuple[int, ...] = HELD_OUT_LAYERS,
    n_processes: int = 1,
) -> None:
    """Make a model from recordings: all stages, each of which goes on where a killed run left it.

    Args:
        samples: the recordings.
        work_dir: where the analysis is kept between runs.
        folder: of the model.
        name: of the model.
        licence: of the model.
        seed: of the networks' first weights.
        size: of the networks, and steps of every stage (`initial.Size`); None: the usual ones.
        held_out: layers that are not learned from.
        n_processes: keys analysed at a time.
    """
    layout, clock = Layout(), Clock(work_dir / "clock.json")
    with clock.part("analysis") as note:
        analyses = analyse(samples, layout, work_dir, n_processes=n_processes, report=note)
        knock = measure(samples, analyses, layout, held_out, work_dir)
        analyses = without_knocks(analyses, knock)
        measured = knock.parameters | {"hiss.density_db": room_tone_db(analyses, layout)}
        t60_s = np.full(len(CENTRES_HZ), TYPICAL_T60_S, np.float32)
        if samples.releases:
            t60_s = decay_times_s(samples.releases)
        room = {"room.t60_s": t60_s, "room.at_hz": np.array(CENTRES_HZ, np.float32)}
        release_db, release_s = release_levels(samples.releases, layout)
    print(f"analysis of {len(samples.files)} recordings: {clock.seconds('analysis'):.0f} s", flush=True)
    from pianofarm_training.fit import fit
    from pianofarm_training.initial import Size

    size = size or Size()
    layers = [layer for layer in range(len(samples.velocities)) if layer not in held_out]
    kept = [without_layers(analysis, held_out) for analysis in analyses]
    run = hashlib.sha256(repr((seed, size, held_out)).encode()).hexdigest()[:12]
    with clock.part(f"learning {run}") as note:

        def report(line: str) -> None:
            print(line, flush=True)
            note()

        stages: dict[str, Any] = {"seed": seed, "stages_dir": work_dir / "stages", "report": report}
        velocities = [samples.velocities[layer] for layer in layers]
        learned, learned_s = fit(kept, velocities, release_db, release_s, layout, size, **stages)
        report(f"fit: {learned_s:.0f} s")
        known = tuning_parameters(analyses) | room | measured
        last: dict[str, Any] = stages | {"learning_rate": size.learning_rate}
        if size.passage_steps:
            from pianofarm_training.finetune import finetune

            found, seconds = finetune(samples, learned | known, layers, layout, n_steps=size.passage_steps, **last)
            report(f"passages: {seconds:.0f} s")
            learned, learned_s = learned | found, learned_s + seconds
        if size.onset_steps:
            from pianofarm_training.onsets import learn_onsets

            beginnings = samples, learned | known, kept, layers, layout
            found, seconds = learn_onsets(*beginnings, n_steps=size.onset_steps, **last)
            report(f"onsets: {seconds:.0f} s")
            learned, learned_s = learned | found, learned_s + seconds
    # Stages that are older than the clock's file carry their seconds themselves.
    learning_s = max(learned_s, clock.seconds(f"learning {run}"))
    facts = {
        "data": samples.credit,
        "recorded_keys": len(samples.pitches),
        "layers": len(samples.velocities),
        "held_out_layers": list(held_out),
        "seed": seed,
        "envelope_steps": size.envelope_steps,
        "gain_steps": size.gain_steps,
        "joint_steps": size.joint_steps,
        "passage_steps": size.passage_steps,
        "onset_steps": size.onset_steps,
        "parameters": sum(value.size for value in learned.values()),
    }
    config = {"licence": licence, "output_gain_db": OUTPUT_GAIN_DB, "room_level_db": ROOM_LEVEL_DB, "training": facts}
    took_s = {"analysis": clock.seconds("analysis"), "learning": learning_s}
    card = model_card(name, licence, facts, took_s, machine())
    export(folder, name, learned | known, layout, config, card)


def main(arguments: list[str] | None = None) -> int:
    """Train the packaged model, or one like it."""
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.train", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA_DIR, help="folder of the recordings (default: data/)")
    parser.add_argument(
        "--out", type=Path, default=PACKAGED_DIR / DEFAULT_MODEL, help="model folder (default: the packaged one)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="keys analysed at a time")
    chosen = parser.parse_args(arguments)
    train(
        salamander(chosen.data),
        chosen.data / "analysis",
        chosen.out,
        name=DEFAULT_MODEL,
        licence="CC-BY-3.0",
        seed=chosen.seed,
        n_processes=chosen.processes,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
