"""Reads the authors' TensorFlow checkpoints and writes our model folders. Everything else works on the folders.

The architecture is recognised from the names and shapes of the variables: a checkpoint does not say which configuration made it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel
from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelInfo, read_model
from pianofarm_worker.synth.published.configs import PUBLISHED, PublishedConfig
from pianofarm_worker.synth.published.variables import Variable, variables

#: What every variable's name ends with in a TensorFlow object-based checkpoint.
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"

#: Names of variables that a checkpoint holds beside the model: the optimiser's and the saver's.
_NOT_THE_MODEL = ("optimizer/", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH", "step")

#: The licence of lrenault/ddsp-piano, under which the authors publish code and weights.
LICENCE = "Apache-2.0"


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder looks like a published TensorFlow checkpoint."""
    return folder.is_dir() and any(folder.glob("*.index"))


def import_checkpoint(source: Path, destination: Path, name: str | None = None) -> ModelInfo:
    """Turn a published checkpoint into a model folder. The same checkpoint and name give the same digest.

    Args:
        source: the folder with `checkpoint`, `*.index` and `*.data-*`.
        destination: the model folder to write; replaced if it is there.
        name: what to call the model; None: the source folder's name.

    Raises:
        BadModel: no checkpoint, a damaged one, one of an unknown architecture, or a name that cannot be used.
    """
    config, weights = read_checkpoint(source)
    return write_model(destination, name or source.resolve().name, config, weights)


def write_model(
    destination: Path, name: str, config: PublishedConfig, weights: dict[str, NDArray[np.float32]]
) -> ModelInfo:
    """Write a model folder; the same arguments give the same digest.

    Args:
        destination: the model folder to write; replaced if it is there.
        name: what to call the model.
        config: which model it is.
        weights: float32, by the names of `variables`.

    Raises:
        BadModel: a name that cannot be used.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise BadModel(f"{name!r} is no name for a model: letters, digits, '.', '_' and '-', at most 100")
    values = {
        "name": name,
        "architecture": config.architecture,
        "sample_rate_hz": config.sample_rate_hz,
        "channels": 1,
        "n_pianos": config.n_pianos,
        "default_piano": config.default_piano,
        "max_polyphony": config.n_voices,
        "licence": LICENCE,
        "published": config.to_json(),
    }
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        _write(folder, values, weights, _card(name, config, weights))
        if destination.exists():
            shutil.rmtree(destination)
        folder.replace(destination)
    return read_model(destination)


def read_checkpoint(source: Path) -> tuple[PublishedConfig, dict[str, NDArray[np.float32]]]:
    """The configuration and the weights (float32, by our names) of a published checkpoint folder.

    Raises:
        BadModel: no checkpoint, a damaged one, or one of an unknown architecture.
    """
    if not is_checkpoint(source):
        raise BadModel(f"{source} holds no TensorFlow checkpoint: no *.index file there")
    import tensorflow as tf

    prefix = tf.train.latest_checkpoint(str(source)) or str(max(source.glob("*.index")))[: -len(".index")]
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = {
            key.removesuffix(_SUFFIX): tuple(int(n) for n in shape)
            for key, shape in reader.get_variable_to_shape_map().items()
            if not key.startswith(_NOT_THE_MODEL)
        }
        config = recognise(shapes, str(source))
        weights = {v.name: _read(reader, v) for v in variables(config)}
    except (tf.errors.OpError, RuntimeError, ValueError, LookupError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadModel(f"{source}: the checkpoint is damaged or incomplete: {first_line} (fetch it again)") from None
    return config, weights


def recognise(shapes: dict[str, tuple[int, ...]], where: str) -> PublishedConfig:
    """The published configuration whose variables these are; any number of pianos.

    Args:
        shapes: shape of every variable by its name in the checkpoint.
        where: what to call the checkpoint in an error.

    Raises:
        BadModel: no configuration fits; the message names the variable in which the nearest one differs.
    """
    nearest: tuple[int, str] | None = None
    for published in PUBLISHED:
        config = dataclasses.replace(published, n_pianos=_n_pianos(shapes, published))
        config = dataclasses.replace(config, default_piano=min(config.default_piano, config.n_pianos - 1))
        wanted = {v.source: v.source_shape for v in variables(config)}
        differences = sorted(key for key in wanted.keys() | shapes.keys() if wanted.get(key) != shapes.get(key))
        if not differences:
            return config
        key = differences[0]
        text = f"{published.name} has {key} {_shape(wanted.get(key))}, this has {_shape(shapes.get(key))}"
        if nearest is None or len(differences) < nearest[0]:
            nearest = len(differences), text
    known = ", ".join(config.name for config in PUBLISHED)
    difference = nearest[1] if nearest else ""
    raise BadModel(f"{where}: unknown architecture: {difference} (known: {known})")


def _n_pianos(shapes: dict[str, tuple[int, ...]], config: PublishedConfig) -> int:
    """Pianos of a checkpoint: rows of its embedding, where the configuration has one."""
    for variable in variables(config):
        if variable.name == "context/piano":
            shape = shapes.get(variable.source, ())
            return shape[0] if len(shape) == 2 and shape[0] else config.n_pianos
    return config.n_pianos


def _shape(shape: tuple[int, ...] | None) -> str:
    return "no such variable" if shape is None else str(list(shape))


def _read(reader: Any, variable: Variable) -> NDArray[np.float32]:
    value = np.asarray(reader.get_tensor(variable.source + _SUFFIX), dtype=np.float32)
    if not np.isfinite(value).all():
        raise ValueError(f"{variable.source} holds values that are not finite")
    return np.array(value, dtype=np.float32, order="C").reshape(variable.shape)


def _write(folder: Path, values: dict[str, Any], weights: dict[str, NDArray[np.float32]], card: str) -> None:
    from safetensors.numpy import save_file

    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    save_file(dict(sorted(weights.items())), folder / WEIGHTS_FILE)
    (folder / CARD_FILE).write_text(card)


def _card(name: str, config: PublishedConfig, weights: dict[str, NDArray[np.float32]]) -> str:
    n_weights = sum(array.size for array in weights.values())
    pianos = "1 piano" if config.n_pianos == 1 else f"{config.n_pianos} pianos, numbered from 0"
    return f"""# {name}

DDSP-Piano, configuration `{config.name}`, imported from the authors' TensorFlow checkpoint. {n_weights:,} weights.

- Sample rate {config.sample_rate_hz} Hz, mono; {pianos}; at most {config.n_voices} notes at a time.
- L. Renault, R. Mignot, A. Roebel, "Differentiable Piano Model for MIDI-to-Audio Performance Synthesis", DAFx 2022, and
  "DDSP-Piano: a Neural Sound Synthesizer Informed by Instrument Knowledge", JAES 71(9), 2023.
- Code and weights: github.com/lrenault/ddsp-piano, {LICENCE}.
"""
