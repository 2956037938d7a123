"""From recordings with MIDI and a house model to a house model that plays nearer to them: a model folder with a card."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pianofarm_common.errors import BadOption
from pianofarm_common.midi import MidiLimits
from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelInfo, read_model
from pianofarm_training.clock import machine
from pianofarm_training.house_pairs import HOP, HouseOutcome, fit_recordings, read_recordings
from pianofarm_training.naming import Naming, Recipe, fingerprint
from pianofarm_training.pair_measures import measure_pairs
from pianofarm_training.pairs import Pair
from pianofarm_worker.synth.house.instruments import parameters_of, settings_of
from pianofarm_worker.synth.house.layout import Layout


def train_house_pairs(
    pairs: Sequence[Pair],
    folder: Path,
    naming: Naming,
    start: ModelInfo,
    recipe: Recipe,
    limits: MidiLimits,
    work_root: Path,
    report: Callable[[int, float], None],
) -> ModelInfo:
    """Fit and write a model folder; a second run of a killed one goes on from its checkpoint.

    Args:
        pairs: checked; all of one piano.
        folder: of the model; nothing is there until all is done.
        naming: of the model.
        start: the house model to start from; of several instruments the first.
        recipe: how.
        limits: on MIDI.
        work_root: what a run leaves is kept below it.
        report: called with step and loss.

    Raises:
        BadOption: the start is no house model, the recordings have several pianos, or all are shorter than an excerpt.
    """
    from safetensors.numpy import load_file, save_file

    if start.architecture != "house":
        raise BadOption(f"--from {start.name}: it is a {start.architecture} model, --architecture is house")
    if len({pair.piano for pair in pairs}) > 1:
        raise BadOption("--architecture house fits one piano: give recordings of one year, the others by --instrument")
    began = time.monotonic()
    config = settings_of(json.loads((start.path / CONFIG_FILE).read_text()), 0)
    config.pop("pianos", None)
    parameters = parameters_of(load_file(start.path / WEIGHTS_FILE), 0)
    layout = Layout.from_config(config)
    data_sha256 = fingerprint([path for pair in pairs for path in (pair.audio, pair.midi)])
    run = hashlib.sha256(json.dumps([data_sha256, start.digest, recipe.as_json()]).encode()).hexdigest()[:16]
    n_frames = int(recipe.excerpt_s * layout.sample_rate_hz / HOP)
    recordings = read_recordings(pairs, limits, layout)
    training, held_out = (
        [r for r, p in zip(recordings, pairs, strict=True) if p.held_out == which and r.power.shape[1] >= n_frames]
        for which in (False, True)
    )
    if not training:
        raise BadOption(f"--excerpt-s {recipe.excerpt_s:g}: no recording to train on is that long")
    learned, louder_db, outcome = fit_recordings(
        parameters,
        training,
        held_out,
        layout,
        n_steps=recipe.n_steps,
        batch_size=recipe.batch_size,
        excerpt_s=recipe.excerpt_s,
        checkpoint_every=recipe.checkpoint_every,
        seed=recipe.seed,
        folder=work_root / run,
        report=report,
    )
    facts = {"data": naming.credit, "data_sha256": data_sha256, "recordings": len(pairs), "from": start.digest}
    facts |= recipe.as_json() | {
        "held_out": sum(pair.held_out for pair in pairs),
        "louder_db": round(louder_db - float(config["output_gain_db"]), 2),
    }
    licence = " AND ".join(dict.fromkeys(part for part in (start.licence, naming.licence) if part))
    config |= {"name": naming.name, "licence": licence, "n_pianos": 1, "default_piano": 0, "training": facts}
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    whole = parameters | learned
    save_file({k: np.array(v, order="C") for k, v in sorted(whole.items())}, unfinished / WEIGHTS_FILE)
    (unfinished / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    minutes = (time.monotonic() - began) / 60
    measured = measure_pairs(unfinished, pairs, [pairs[0].piano], limits)
    (unfinished / CARD_FILE).write_text(_card(naming, licence, start, facts, outcome, measured, minutes))
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return read_model(folder)


def _card(
    naming: Naming,
    licence: str,
    start: ModelInfo,
    facts: dict[str, object],
    outcome: HouseOutcome,
    measured: str,
    minutes: float,
) -> str:
    before, after = outcome.first_validation, outcome.last_validation
    held_out = "not measured: none was held out" if before is None or after is None else f"{before:.2f} -> {after:.2f}"
    return f"""# {naming.name}

A house piano (additive synthesis and shaped noise, driven by small networks) fitted to recordings with their MIDI.

- **Data:** {naming.credit or "not stated"}. {facts["recordings"]} recordings, {facts["held_out"]} held out. Sha256 of the files:
  {facts["data_sha256"]}. It started from `{start.name}` ({start.digest[:12]}), whose card names its own data.
- **Licence:** {licence or "not stated"}.
- **Sound:** 32 kHz, two channels, any polyphony.

## How it was trained

`pianofarm train pairs --architecture house`: {facts["steps"]} Adam steps of {facts["batch_size"]} excerpts
of {facts["excerpt_s"]} s, seed {facts["seed"]}, on powers in mel bands over time. The last run made
{outcome.n_steps_now} of them in {minutes:.1f} minutes on {machine()}, other work on them not known.

## Measured

- Huber loss of band levels, dB, on training excerpts, first and last step: {outcome.first_loss:.2f} -> {outcome.last_loss:.2f}.
- On held-out excerpts, before and after: {held_out}.
- The recordings are {facts["louder_db"]} dB louder than the start plays them; the model plays at the start's level.

{measured}

## Limits

- Tuning, phases, hammer knock and room are those of the start; keys and velocities that no recording plays are the start's too.
- What the recordings' room adds is taken for the strings' own.
"""
