"""From recordings with MIDI to a model of a published architecture: excerpts, the loop, a model folder. Reads no options."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.midi import MidiLimits
from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelInfo, read_model
from pianofarm_training.excerpts import ExcerptSource, Piece, prepare
from pianofarm_training.naming import Naming, Recipe, fingerprint
from pianofarm_training.pair_measures import measure_pairs
from pianofarm_training.pairs import Pair, pianos
from pianofarm_worker.synth.published.configs import DAFX22, MAESTRO_V2, PublishedConfig

ARCHITECTURES = {"dafx22": DAFX22, "maestro-v2": MAESTRO_V2}


def train_pairs(
    pairs: Sequence[Pair],
    folder: Path,
    naming: Naming,
    config: PublishedConfig,
    recipe: Recipe,
    limits: MidiLimits,
    work_root: Path,
    report: Callable[[int, float], None],
) -> ModelInfo:
    """Train and write a model folder; a second run of a killed one goes on from its newest checkpoint.

    Args:
        pairs: checked.
        folder: of the model; nothing is there until all is done.
        naming: of the model.
        config: the architecture; its number of pianos is taken from the pairs, or from the model to go on from.
        recipe: how.
        limits: on MIDI.
        work_root: what a run leaves is kept below it, in a folder named after data and recipe.
        report: called with step and loss.

    Raises:
        BadOption, BadModel: the model to go on from is another architecture, or damaged.
    """
    from pianofarm_worker.synth import backend

    backend.choose("tensorflow")
    import tensorflow as tf

    # Same seed, same digest: no sum may depend on which thread is first.
    tf.config.experimental.enable_op_determinism()
    from pianofarm_training.published import loop
    from pianofarm_training.published.card import pair_card
    from pianofarm_training.published.graph import Graph
    from pianofarm_training.published.start import initial_weights

    began = time.monotonic()
    names = pianos(list(pairs))
    if recipe.start is None:
        config = dataclasses.replace(config, n_pianos=len(names), default_piano=0)
        weights = initial_weights(config, recipe.seed)
    else:
        config, weights = _start_from(recipe.start, config, len(names))
    data_sha256 = fingerprint([path for pair in pairs for path in (pair.audio, pair.midi)])
    work = work_root / _run_id(data_sha256, config, recipe)
    pieces = prepare(pairs, names, config, float(weights["release_s"]), limits, work / "pieces")
    n_frames = int(recipe.excerpt_s * config.frame_rate_hz)
    training, held_out = (
        [
            piece
            for piece, pair in zip(pieces, pairs, strict=True)
            if pair.held_out == which and piece.n_frames >= n_frames
        ]
        for which in (False, True)
    )
    if not training:
        raise BadOption(f"--excerpt-s {recipe.excerpt_s:g}: no recording to train on is that long")
    graph = Graph(config, weights)
    outcome = loop.run(
        graph,
        _source(training, config, n_frames, recipe.seed),
        _source(held_out, config, n_frames, recipe.seed) if held_out else None,
        loop.Plan(recipe.n_steps, recipe.batch_size, recipe.checkpoint_every, recipe.seed),
        work,
        report,
    )
    minutes = (time.monotonic() - began) / 60
    facts = {
        "data": naming.credit,
        "data_sha256": data_sha256,
        "recordings": len(pairs),
        "held_out": sum(pair.held_out for pair in pairs),
        "hours": round(sum(p.n_frames for p in pieces) / config.frame_rate_hz / 3600, 3),
        "pianos": names,
        "from": None if recipe.start is None else recipe.start.digest,
        "steps": recipe.n_steps,
        "batch_size": recipe.batch_size,
        "excerpt_s": recipe.excerpt_s,
        "seed": recipe.seed,
    }
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    write_folder(unfinished, naming, config, graph.weights(), facts)
    measured = measure_pairs(unfinished, pairs, names, limits)
    (unfinished / CARD_FILE).write_text(pair_card(naming, config, facts, outcome, measured, minutes))
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return read_model(folder)


def _source(pieces: list[Piece], config: PublishedConfig, n_frames: int, seed: int) -> ExcerptSource:
    return ExcerptSource(pieces, config.hop, n_frames, seed)


def _start_from(start: ModelInfo, config: PublishedConfig, n_pianos: int) -> tuple[PublishedConfig, dict[str, Any]]:
    from pianofarm_worker.synth.published.piano import read_published

    found, weights = read_published(start)
    if found.architecture != config.architecture:
        raise BadOption(f"--from {start.name}: it is a {found.architecture} model, --architecture is {config.name}")
    if n_pianos > found.n_pianos:
        raise BadModel(f"--from {start.name}: it has {found.n_pianos} pianos, the recordings have {n_pianos}")
    return found, weights


def _run_id(data_sha256: str, config: PublishedConfig, recipe: Recipe) -> str:
    start = recipe.start.digest if recipe.start else None
    whole = json.dumps([data_sha256, config.to_json(), recipe.as_json(), start], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def write_folder(
    folder: Path, naming: Naming, config: PublishedConfig, weights: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Write configuration and weights; the card is another's work.

    Args:
        folder: made where it is missing.
        naming: of the model.
        config: of the model.
        weights: float32, by the names of `variables`.
        facts: what the configuration says of the training.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.array(value, np.float32, order="C") for name, value in sorted(weights.items())}, folder / WEIGHTS_FILE
    )
    values = {
        "name": naming.name,
        "architecture": config.architecture,
        "sample_rate_hz": config.sample_rate_hz,
        "channels": 1,
        "n_pianos": config.n_pianos,
        "default_piano": config.default_piano,
        "max_polyphony": config.n_voices,
        "licence": naming.licence,
        "published": config.to_json(),
        "training": facts,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
