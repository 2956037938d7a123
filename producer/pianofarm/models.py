"""Models from the producer's side: the model a request names, checked, and in the store where workers can fetch it."""

from __future__ import annotations

import hashlib
import re
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from pianofarm_common.errors import BadOption, BadSettings, UnknownModel
from pianofarm_common.models import (
    CARD_FILE,
    CONFIG_FILE,
    PACKAGED_DIR,
    WEIGHTS_FILE,
    ModelInfo,
    check_unchanged,
    find_model,
    note_digest,
    read_model,
)
from pianofarm_common.registry import Registry, publish
from pianofarm_common.renders import RenderOptions
from pianofarm_common.storage import BlobStore, model_object


def require_worker(*needed: str) -> None:
    """Make sure that this environment can synthesize.

    Args:
        needed: packages to look for; none: those of the default backend.

    Raises:
        BadSettings: it cannot; the message says what to install.
    """
    missing = [name for name in needed or ("keras", "tensorflow", "soundfile") if find_spec(name) is None]
    if missing:
        raise BadSettings(
            f"{', '.join(missing)} not installed: pip install 'pianofarm[worker]' (jax: 'pianofarm[worker,jax]')"
        )


def resolve_model(name: str, state_dir: Path, registry: Registry | None = None) -> ModelInfo:
    """The model of this name, folder or digest; a published checkpoint folder is imported into the state folder, once.

    What is not at hand is fetched from the registry, where there is one.

    Raises:
        UnknownModel: no such model.
        ServiceUnavailable: the registry does not answer.
        BadModel: the folder is damaged or of an unknown architecture.
        BadSettings: a checkpoint must be imported and TensorFlow is not installed.
    """
    folder = Path(name)
    checkpoints = [] if (folder / CONFIG_FILE).is_file() or not folder.is_dir() else sorted(folder.glob("*.index"))
    if not checkpoints:
        try:
            return find_model(name, state_dir)
        except UnknownModel as error:
            if registry is None or folder.is_dir():
                raise
            try:
                return registry.fetch(name, state_dir)
            except UnknownModel as there:
                raise UnknownModel(f"{error}; {there}") from None
    # Known again by where the checkpoint is and when it was written, so that a second use needs no TensorFlow.
    where = "\n".join(f"{path.resolve()} {path.stat().st_mtime_ns}" for path in checkpoints)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "checkpoint"
    imported = state_dir / "models" / f"{slug}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
    if (imported / CONFIG_FILE).is_file():
        return read_model(imported)
    return import_model(folder, imported, slug)


def import_model(source: Path, destination: Path, name: str) -> ModelInfo:
    """Turn a published checkpoint into a model folder.

    Raises:
        BadModel: no checkpoint, a damaged one, or one of an unknown architecture.
        BadSettings: TensorFlow is not installed, or the destination cannot be written.
    """
    require_worker("tensorflow", "safetensors")
    from pianofarm_worker.synth.published.checkpoints import import_checkpoint

    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        model = import_checkpoint(source, destination, name)
        note_digest(model)
    except OSError as error:
        raise BadSettings(f"cannot write the model to {destination}: {error.strerror or error}") from None
    return model


def check_options(model: ModelInfo, options: RenderOptions) -> None:
    """Refuse what this model cannot do.

    Raises:
        BadOption: the model has no such piano.
    """
    if options.piano is not None and options.piano >= model.n_pianos:
        raise BadOption(f"piano={options.piano}: model {model.name!r} has {model.n_pianos} (0 to {model.n_pianos - 1})")


def publish_model(store: BlobStore, model: ModelInfo) -> bool:
    """Put a model that is not part of the package in the store, once; returns True where it was sent now."""
    if model.path.resolve().is_relative_to(PACKAGED_DIR.resolve()):
        return False
    return publish(store, partial(model_object, model.digest), model)


def adopt_model(source: Path, destination: Path) -> ModelInfo:
    """Copy a model folder, one that `pianofarm train` made for instance, to where it is found by its name.

    Raises:
        BadModel: it is no model, or another one than was trained or imported there.
        BadSettings: the destination cannot be written.
    """
    check_unchanged(read_model(source))
    part = destination.with_name(f".{destination.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE):
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
        note_digest(read_model(part))
        part.rename(destination)
    except OSError as error:
        raise BadSettings(f"cannot write the model to {destination}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return read_model(destination)
