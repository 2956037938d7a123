"""The catalogue of models: folders with `config.json`, `model.safetensors` and `README.md` (the model card), by name or digest.

Reads JSON and hashes files; knows nothing of networks, so that a producer without TensorFlow can name a model and compute
render keys. Models live inside the package (`weights/`), in the state folder (`models/`) or in any folder a user names.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pianofarm_common.errors import BadModel, UnknownModel

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"

#: The digest a model had when it was imported or trained; not part of what the digest is taken over.
DIGEST_FILE = "digest.txt"

#: Models that are part of the package.
PACKAGED_DIR = Path(__file__).parent / "weights"

#: The packaged model that the name "default" stands for.
DEFAULT_MODEL = "house-2"


@dataclass(frozen=True)
class ModelInfo:
    """One model of the catalogue, read from its `config.json`."""

    name: str
    digest: str  #: sha256 over the configuration and the weights, 64 hex digits
    architecture: str  #: "house", "dafx22", "maestro-v2" or "enstdkcl"
    sample_rate_hz: int
    channels: int  #: 1 or 2
    n_pianos: int
    default_piano: int
    max_polyphony: int | None  #: None: as many notes as sound
    licence: str
    path: Path


def read_model(folder: Path) -> ModelInfo:
    """Read one model folder.

    Raises:
        BadModel: a file is missing or `config.json` does not hold what a model needs.
    """
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config_path, weights_path):
        if not path.is_file():
            raise BadModel(
                f"{folder} is no model: {path.name} is missing (make one with 'pianofarm models import DIR')"
            )
    try:
        config = json.loads(config_path.read_text())
        return ModelInfo(
            name=str(config["name"]),
            digest=_digest(config_path, weights_path, weights_path.stat().st_mtime_ns),
            architecture=str(config["architecture"]),
            sample_rate_hz=int(config["sample_rate_hz"]),
            channels=int(config["channels"]),
            n_pianos=int(config["n_pianos"]),
            default_piano=int(config["default_piano"]),
            max_polyphony=None if config["max_polyphony"] is None else int(config["max_polyphony"]),
            licence=str(config["licence"]),
            path=folder,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadModel(f"{config_path}: {type(error).__name__} {error}: not a model configuration") from None


def note_digest(model: ModelInfo) -> None:
    """Write a model's digest beside it, for `check_unchanged`. Raises OSError."""
    (model.path / DIGEST_FILE).write_text(f"{model.digest}\n")


def check_unchanged(model: ModelInfo) -> bool:
    """Compare a model's digest with the one it had when it was fetched, imported or trained; False where that is not known.

    Raises:
        BadModel: its files are others since.
    """
    if re.fullmatch(r"[0-9a-f]{64}", model.path.name):
        if model.path.name != model.digest:
            raise BadModel(
                f"{model.path} is damaged: its digest is {model.digest[:12]}; remove it, it is fetched again"
            )
        return True
    noted = model.path / DIGEST_FILE
    if not noted.is_file():
        return False
    before = noted.read_text(errors="replace").strip()
    if before != model.digest:
        raise BadModel(
            f"{model.path} was changed since it was imported or trained: its digest is {model.digest[:12]} and was"
            f" {before[:12]!r}; remove it and import it again, or remove {noted} if the change was meant"
        )
    return True


@lru_cache(maxsize=64)
def _digest(config_path: Path, weights_path: Path, _mtime_ns: int) -> str:
    """Sha256 over the configuration (canonical JSON) and the weights; the modification time only keys the cache."""
    config = json.dumps(json.loads(config_path.read_text()), sort_keys=True, separators=(",", ":")).encode()
    with weights_path.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").digest()
    return hashlib.sha256(hashlib.sha256(config).digest() + weights).hexdigest()


def catalogue(state_dir: Path) -> list[ModelInfo]:
    """Every model at hand, once: the packaged ones first, then those in the state folder, each by name.

    A model may lie in the state folder under its name, under its digest and as a checkpoint that was used in place.
    """
    folders = [
        folder
        for root in (PACKAGED_DIR, state_dir / "models")
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if (folder / CONFIG_FILE).is_file()
    ]
    by_digest: dict[str, ModelInfo] = {}
    for model in map(read_model, folders):
        by_digest.setdefault(model.digest, model)
    return list(by_digest.values())


def find_model(name: str, state_dir: Path) -> ModelInfo:
    """The model of this name, folder, or digest (at least 8 hex digits).

    Raises:
        UnknownModel: nothing by that name; the message lists what there is.
        BadModel: the folder is damaged.
    """
    if name == "default":
        return read_model(PACKAGED_DIR / DEFAULT_MODEL)
    if (Path(name) / CONFIG_FILE).is_file():
        return read_model(Path(name))
    known = catalogue(state_dir)
    for model in known:
        if name == model.name or (len(name) >= 8 and model.digest.startswith(name)):
            return model
    if Path(name).is_dir():
        raise UnknownModel(
            f"{name} holds no {CONFIG_FILE}: import a published checkpoint with 'pianofarm models import {name}'"
        )
    names = ", ".join(dict.fromkeys(["default", *(model.name for model in known)]))
    raise UnknownModel(f"no model {name!r}: known are {names}; 'pianofarm models import DIR' adds one")
