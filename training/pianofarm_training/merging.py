"""Several house instruments in one model file: adds one to a model, or puts another in its place. Trains nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel
from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelInfo, read_model
from pianofarm_worker.synth.house.instruments import names, parameters_of, prefix
from pianofarm_worker.synth.house.layout import Layout

#: Where a card says which instrument has which number.
INSTRUMENTS_START, INSTRUMENTS_END = "<!-- instruments -->", "<!-- /instruments -->"

#: What is the model's and not one instrument's.
_OF_THE_MODEL = ("name", "architecture", "n_pianos", "default_piano", "max_polyphony", "channels", "pianos")


def name_instrument(folder: Path, name: str) -> None:
    """Give the only instrument of a model a name of its own."""
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["pianos"] = [{"name": name}]
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    card = folder / CARD_FILE
    card.write_text(card.read_text().rstrip() + "\n\n" + _listed([name]))


def check_can_take(folder: Path) -> None:
    """Refuse to add an instrument to what is no house model.

    Raises:
        BadModel: it is none.
    """
    found = read_model(folder)
    if found.architecture != "house":
        raise BadModel(f"{folder}: instruments are added to house models, this is {found.architecture}")


def add_instrument(folder: Path, made: Path, name: str) -> ModelInfo:
    """Put the first instrument of one model into another, under the next number or that of its namesake.

    Args:
        folder: the model that gets it; replaced as a whole once everything is written.
        made: the model that has it.
        name: what to call it.

    Raises:
        BadModel: the two divide time and frequency differently, or one of them is damaged.
    """
    from safetensors.numpy import load_file, save_file

    config, new = (json.loads((path / CONFIG_FILE).read_text()) for path in (folder, made))
    if Layout.from_config(config) != Layout.from_config(new):
        raise BadModel(f"{folder} and {made} divide time and frequency differently: train both with this version")
    pianos: list[dict[str, Any]] = list(config.get("pianos") or [{"name": config["name"]}])
    known = names(config)
    number = known.index(name) if name in known else len(known)
    own = {key: value for key, value in new.items() if key not in _OF_THE_MODEL}
    parameters = load_file(folder / WEIGHTS_FILE)
    kept: dict[str, NDArray[np.float32]] = {
        prefix(other) + key: value
        for other in range(len(known))
        if other != number
        for key, value in parameters_of(parameters, other).items()
    }
    kept |= {prefix(number) + key: value for key, value in parameters_of(load_file(made / WEIGHTS_FILE), 0).items()}
    if number == 0:
        config |= own
        pianos[0] = {"name": name}
    else:
        pianos[number:] = [{"name": name, **own}, *pianos[number + 1 :]]
    licences = dict.fromkeys([config["licence"], *(str(p["licence"]) for p in pianos if "licence" in p)])
    config |= {
        "pianos": pianos,
        "n_pianos": len(pianos),
        "licence": " AND ".join(licence for licence in licences if licence),
    }
    unfinished = folder.with_name(f".{folder.name}.merged")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    save_file({key: np.array(value, order="C") for key, value in sorted(kept.items())}, unfinished / WEIGHTS_FILE)
    (unfinished / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    card = _without_section((folder / CARD_FILE).read_text(), name) if (folder / CARD_FILE).is_file() else ""
    added = (made / CARD_FILE).read_text().replace("\n## ", "\n### ").replace("# ", f"## Instrument {name}: ", 1)
    whole = f"{card.rstrip()}\n\n{_listed([str(p['name']) for p in pianos])}\n{_section(name, added)}"
    (unfinished / CARD_FILE).write_text(whole)
    shutil.rmtree(folder)
    unfinished.rename(folder)
    return read_model(folder)


def _listed(instruments: list[str]) -> str:
    rows = "\n".join(f"| {number} | {name} |" for number, name in enumerate(instruments))
    return f"{INSTRUMENTS_START}\n| `--piano` | instrument |\n|---|---|\n{rows}\n{INSTRUMENTS_END}\n"


def _section(name: str, text: str) -> str:
    return f"<!-- instrument {name} -->\n{text.strip()}\n<!-- /instrument {name} -->\n"


def _without_section(card: str, name: str) -> str:
    """The card less its list of instruments and less what it says of this one, should it be there."""
    for start, end in (
        (INSTRUMENTS_START, INSTRUMENTS_END),
        (f"<!-- instrument {name} -->", f"<!-- /instrument {name} -->"),
    ):
        before, found, rest = card.partition(start)
        if found:
            card = before.rstrip() + "\n\n" + rest.partition(end)[2].lstrip()
    return card
