"""`python -m pianofarm_training.evaluate`: a house model and its peers against the recordings it was, and was not, trained on.

What is measured is in `evaluation/`; the figures go into training/results/quality.json, docs/quality.md and the model's card.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pianofarm_common.errors import NotFound
from pianofarm_common.models import CARD_FILE, DEFAULT_MODEL, PACKAGED_DIR, WEIGHTS_FILE, read_model
from pianofarm_training.analysis import analyse
from pianofarm_training.card import with_measurements
from pianofarm_training.data import DEFAULT_DATA_DIR
from pianofarm_training.evaluation import figures, instruments, page
from pianofarm_training.evaluation.listening import Ears
from pianofarm_training.evaluation.partial_levels import level_errors
from pianofarm_training.samples import salamander
from pianofarm_training.train import HELD_OUT_LAYERS
from pianofarm_worker.synth.house.layout import Layout

_REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = _REPOSITORY / "training" / "results" / "quality.json"
PAGE = _REPOSITORY / "docs" / "quality.md"


def one_instrument(name: str, data: Path, model: Path, work_dir: Path) -> figures.Figures:
    """The figures of an instrument by its name; runs in a process of its own.

    Args:
        name: `sampler`, `house`, or one of `instruments.others`.
        data: folder of the recordings.
        model: folder of the house model.
        work_dir: where references and figures are kept.
    """
    samples = salamander(data)
    if name == "sampler":
        instrument = instruments.sampler(samples)
    elif name == "house":
        instrument = instruments.house(model)
    else:
        (instrument,) = (other for other in instruments.others(work_dir)[0] if other.name == name)
    try:
        ears = Ears()
    except NotFound:
        ears = None
    return figures.remembered(instrument, samples, HELD_OUT_LAYERS, ears, work_dir)


def evaluate(data: Path, model: Path, n_processes: int) -> dict[str, Any]:
    """Measure everything that can be measured here.

    Args:
        data: folder of the recordings.
        model: folder of the house model.
        n_processes: instruments measured at a time.
    """
    from safetensors.numpy import load_file

    began = time.monotonic()
    work_dir = data / "evaluation"
    work_dir.mkdir(exist_ok=True)
    samples = salamander(data)
    info = read_model(model)
    others, missing = instruments.others(work_dir)
    try:
        Ears()
    except NotFound as error:
        missing.append(str(error))
    # The sampler goes first: the others are held against what it played.
    found = {"sampler": one_instrument("sampler", data, model, work_dir)}
    print(f"sampler: {time.monotonic() - began:.0f} s", flush=True)
    names = ["house", *(other.name for other in others)]
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        running = {name: pool.submit(one_instrument, name, data, model, work_dir) for name in names}
        analyses = analyse(samples, Layout(), data / "analysis")
        partials = level_errors(load_file(model / WEIGHTS_FILE), analyses, samples, HELD_OUT_LAYERS)
        for name in names:
            found[name] = running[name].result()
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return {
        "model": info.name,
        "digest": info.digest,
        "layers": list(HELD_OUT_LAYERS),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": time.monotonic() - began,
        "missing": missing,
        "partials": asdict(partials),
        "instruments": {name: found[name] for name in ("house", "sampler", *names[1:])},
    }


def rounded(value: Any) -> Any:
    """Four digits of every figure: more would only be noise in the history."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items() if key != "state"}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def main(arguments: list[str] | None = None) -> int:
    """Measure a model; of the packaged one, write the figures into the repository and into its card."""
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA_DIR, help="folder of the recordings (default: data/)")
    parser.add_argument(
        "--model", type=Path, default=PACKAGED_DIR / DEFAULT_MODEL, help="model folder (default: the packaged one)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="instruments measured at a time")
    parser.add_argument("--print-only", action="store_true", help="write no page, no card")
    chosen = parser.parse_args(arguments)
    saved = rounded(evaluate(chosen.data, chosen.model, chosen.processes))
    print("\n\n".join(f"## {name}\n\n{make(saved)}" for name, make in page.TABLES.items()))
    if chosen.print_only:
        return 0
    if chosen.model.resolve() == (PACKAGED_DIR / DEFAULT_MODEL).resolve():
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
        PAGE.write_text(page.fill(PAGE.read_text(), saved))
    card = chosen.model / CARD_FILE
    card.write_text(with_measurements(card.read_text(), page.card(saved)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
