"""From a user's own recorded notes to a house model: checks, the stages of `train`, measurement, card. The stages are elsewhere."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pianofarm_common.models import CARD_FILE, CONFIG_FILE, ModelInfo, read_model
from pianofarm_training.card import with_measurements
from pianofarm_training.initial import Size
from pianofarm_training.merging import add_instrument, check_can_take, name_instrument
from pianofarm_training.naming import Naming, fingerprint
from pianofarm_training.own_card import Effort, own_card
from pianofarm_training.own_measures import measure_notes
from pianofarm_training.own_samples import gather, missing_and_doubled, sample_set
from pianofarm_training.problems import BadData, in_order
from pianofarm_training.sample_checks import check
from pianofarm_training.samples import SampleSet
from pianofarm_training.train import train

#: With fewer layers than this none can be spared to measure on.
FEWEST_TO_HOLD_OUT = 5

#: Every so many layers one is held out, from the fourth on.
HOLD_OUT_EVERY = 4


def checked_samples(source: Path, credit: str, progress: Callable[[int, int], None] | None = None) -> SampleSet:
    """The recordings of a folder or mapping, every one listened to.

    Args:
        source: a folder or an .sfz file; see `own_samples`.
        credit: whom to name for the recordings.
        progress: called with files done and files in all.

    Raises:
        NotFound: no recordings there.
        BadMapping: the mapping cannot be read.
        BadData: something is wrong with them; the error holds all of it.
    """
    found, problems = gather(source)
    problems += check(found, None if progress is None else lambda done: progress(done, len(found)))
    problems += missing_and_doubled(found)
    if problems:
        raise BadData(source, in_order(problems))
    return sample_set(found, credit)


def held_out_layers(n_layers: int) -> tuple[int, ...]:
    """Layers kept from the networks to measure them by: of sixteen the fourth, eighth and twelfth; of fewer than five none."""
    return tuple(range(3, n_layers - 1, HOLD_OUT_EVERY)) if n_layers >= FEWEST_TO_HOLD_OUT else ()


def train_samples(
    samples: SampleSet,
    folder: Path,
    naming: Naming,
    *,
    size: Size,
    size_name: str,
    seed: int,
    work_root: Path,
    n_processes: int = 1,
    instrument: str | None = None,
) -> ModelInfo:
    """Learn a house model from checked recordings. A second run of a killed one goes on with the stages that are done.

    Args:
        samples: from `checked_samples`.
        folder: of the model, made by this; nothing is there, or what was there before, until all is done.
        naming: of the model.
        size: of the networks.
        size_name: what the user calls that size.
        seed: of the networks' first weights: the same recordings, size and seed give the same digest on one machine.
        work_root: what stages leave is kept below it, in a folder named after the recordings' contents.
        n_processes: keys analysed at a time.
        instrument: what to call it among the instruments of the model; where the folder holds a model, it is added to that.

    Raises:
        BadModel: the folder holds a model that takes no instruments.
    """
    adds = instrument is not None and (folder / CONFIG_FILE).is_file()
    if adds:
        check_can_take(folder)
    began = time.monotonic()
    data_sha256 = fingerprint(list(samples.files.values()))
    work, unfinished = work_root / data_sha256[:16], folder.with_name(f".{folder.name}.unfinished")
    held_out = held_out_layers(len(samples.velocities))
    # The stages print how far they are; standard output is for results.
    with contextlib.redirect_stdout(sys.stderr):
        train(
            samples,
            work,
            unfinished,
            name=naming.name,
            licence=naming.licence,
            seed=seed,
            size=size,
            held_out=held_out,
            n_processes=n_processes,
        )
    _note(unfinished / CONFIG_FILE, {"data_sha256": data_sha256, "size": size_name})
    minutes = (time.monotonic() - began) / 60
    facts = json.loads((unfinished / CONFIG_FILE).read_text())["training"]
    measured = measure_notes(unfinished, samples, work, held_out)
    card = own_card(naming.name, naming.licence, samples, facts, Effort(size_name, minutes))
    (unfinished / CARD_FILE).write_text(with_measurements(card, measured))
    if adds and instrument is not None:
        merged = add_instrument(folder, unfinished, instrument)
        shutil.rmtree(unfinished)
        return merged
    if instrument is not None:
        name_instrument(unfinished, instrument)
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return read_model(folder)


def _note(config_path: Path, facts: dict[str, Any]) -> None:
    """Add to what the configuration says of its training."""
    config = json.loads(config_path.read_text())
    config["training"] |= facts
    config_path.write_text(json.dumps(config, indent=2) + "\n")
