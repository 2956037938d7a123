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

from pianofarm_common.errors import BadModel, NotFound
from pianofarm_common.models import CARD_FILE, DEFAULT_MODEL, PACKAGED_DIR, WEIGHTS_FILE, read_model
from pianofarm_training.analysis import analyse
from pianofarm_training.card import with_measurements
from pianofarm_training.data import DEFAULT_DATA_DIR
from pianofarm_training.evaluation import figures, instruments, page
from pianofarm_training.evaluation.listening import Ears
from pianofarm_training.evaluation.musts import Must, of_quality, of_speed
from pianofarm_training.evaluation.partial_levels import level_errors
from pianofarm_training.samples import salamander
from pianofarm_training.train import HELD_OUT_LAYERS
from pianofarm_worker.synth.house.layout import Layout

_REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = _REPOSITORY / "training" / "results" / "quality.json"
BENCH = _REPOSITORY / "bench" / "results" / "full.json"
PAGE = _REPOSITORY / "docs" / "quality.md"

#: The picture of `evaluation.picture`, seen from the packaged model's folder.
CARD_PICTURE = "../../../../docs/pictures/house-and-recording.png"

#: Where in the data folder sounds and figures are kept.
WORK_DIR = "evaluation"


def instrument_named(name: str, data: Path, model: Path) -> instruments.Instrument:
    """An instrument.

    Args:
        name: `sampler`, `house`, or one of `instruments.others`.
        data: folder of the recordings.
        model: folder of the house model.
    """
    if name == "sampler":
        return instruments.sampler(salamander(data))
    if name == "house":
        return instruments.house(model)
    (found,) = (other for other in instruments.others(data / WORK_DIR)[0] if other.name == name)
    return found


def sound_of(name: str, data: Path, model: Path) -> figures.Figures:
    """The figures of an instrument that need no listening; runs in a process of its own."""
    instrument = instrument_named(name, data, model)
    return figures.sound_figures(instrument, salamander(data), HELD_OUT_LAYERS, data / WORK_DIR)


def evaluate(data: Path, model: Path, n_processes: int, *, peers: bool, listening: bool) -> dict[str, Any]:
    """Measure everything that can be measured here.

    Args:
        data: folder of the recordings.
        model: folder of the house model.
        n_processes: instruments measured at a time.
        peers: with the other instruments.
        listening: with ViSQOL, Zimtohrli and Transkun, if they are set up.

    Raises:
        BadModel: the model was replaced meanwhile.
    """
    from safetensors.numpy import load_file

    began = time.monotonic()
    work_dir = data / WORK_DIR
    work_dir.mkdir(exist_ok=True)
    info = read_model(model)
    others, missing = instruments.others(work_dir) if peers else ([], ["other instruments: not asked for"])
    sound = {"sampler": sound_of("sampler", data, model)}
    _say("sampler", began)
    names = ["house", *(other.name for other in others)]
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        running = {name: pool.submit(sound_of, name, data, model) for name in names}
        samples = salamander(data)
        analyses = analyse(samples, Layout(), data / "analysis")
        partials = level_errors(load_file(model / WEIGHTS_FILE), analyses, samples, HELD_OUT_LAYERS)
        for name in names:
            sound[name] = running[name].result()
            _say(name, began)
    heard: dict[str, figures.Figures] = {}
    if not listening:
        missing.append("ViSQOL, Zimtohrli, Transkun: not asked for")
    else:
        try:
            ears = Ears()
            for name in ("house", "sampler", *names[1:]):
                heard[name] = figures.heard_figures(instrument_named(name, data, model), ears, work_dir)
                _say(f"{name}, heard", began)
        except NotFound as error:
            missing.append(str(error))
    if read_model(model).digest != info.digest:
        raise BadModel(f"{model} changed while it was measured: run it again, only the model is measured anew")
    return {
        "model": info.name,
        "digest": info.digest,
        "layers": list(HELD_OUT_LAYERS),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": time.monotonic() - began,
        "missing": missing,
        "partials": asdict(partials),
        "instruments": {
            name: figures.together(sound[name], heard.get(name)) for name in ("house", "sampler", *names[1:])
        },
    }


def _say(what: str, began: float) -> None:
    print(f"{time.monotonic() - began:6.0f} s: {what}", flush=True)


def rounded(value: Any) -> Any:
    """Four digits of every figure: more would only be noise in the history."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def written(saved: dict[str, Any], model: Path, *, packaged: bool) -> tuple[str, list[Must]]:
    """A model's card with its measurements, and the promises that these break.

    Args:
        saved: the figures.
        model: its folder.
        packaged: whether it is the model whose speed `make bench` measures and of which there is a picture.
    """
    bench = json.loads(BENCH.read_text()) if packaged and BENCH.is_file() else None
    card = page.card(saved, bench, CARD_PICTURE if packaged else None)
    card = with_measurements((model / CARD_FILE).read_text(), card)
    promises = of_quality(saved) + ([] if bench is None else of_speed(bench))
    return card, [must for must in promises if must.held is False]


def rewrite(model: Path) -> list[Must]:
    """The page and the packaged model's card from the figures that are saved, those of `make bench` among them.

    Args:
        model: folder of the packaged model.

    Returns:
        The promises that the figures break.

    Raises:
        BadModel: the figures are another model's.
    """
    saved, info = json.loads(RESULTS.read_text()), read_model(model)
    if saved["digest"] != info.digest:
        raise BadModel(f"{RESULTS} is of digest {saved['digest'][:16]}, {model} is {info.digest[:16]}: make evaluate")
    PAGE.write_text(page.fill(PAGE.read_text(), saved))
    card, missed = written(saved, model, packaged=True)
    (model / CARD_FILE).write_text(card)
    return missed


def _verdict(missed: list[Must]) -> int:
    for must in missed:
        print(f"MISSED: {must.what}: {must.figure:.4g} {must.unit}, bound {must.bound:g}", file=sys.stderr)
    return 1 if missed else 0


def main(arguments: list[str] | None = None) -> int:
    """Measure a model; of the packaged one, write the figures into the repository and into its card.

    Returns:
        1 where a promise is broken, else 0; all is written either way.
    """
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA_DIR, help="folder of the recordings (default: data/)")
    parser.add_argument(
        "--model", type=Path, default=PACKAGED_DIR / DEFAULT_MODEL, help="model folder (default: the packaged one)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="instruments measured at a time")
    parser.add_argument("--print-only", action="store_true", help="write no page, no card")
    parser.add_argument(
        "--rewrite", action="store_true", help="measure nothing: page and packaged card from the saved figures"
    )
    parser.add_argument("--no-peers", action="store_true", help="without dafx22 and FluidSynth")
    parser.add_argument("--no-listening", action="store_true", help="without ViSQOL, Zimtohrli and Transkun")
    chosen = parser.parse_args(arguments)
    packaged = chosen.model.resolve() == (PACKAGED_DIR / DEFAULT_MODEL).resolve()
    if chosen.rewrite:
        if not packaged:
            parser.error("--rewrite is for the packaged model: figures of others are not saved")
        return _verdict(rewrite(chosen.model))
    peers, listening = not chosen.no_peers, not chosen.no_listening
    saved = rounded(evaluate(chosen.data, chosen.model, chosen.processes, peers=peers, listening=listening))
    print("\n\n".join(f"## {name}\n\n{make(saved)}" for name, make in page.TABLES.items()))
    if packaged and not chosen.print_only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
        return _verdict(rewrite(chosen.model))
    card, missed = written(saved, chosen.model, packaged=packaged)
    if not chosen.print_only:
        (chosen.model / CARD_FILE).write_text(card)
    return _verdict(missed)


if __name__ == "__main__":
    sys.exit(main())
