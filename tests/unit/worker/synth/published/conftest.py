"""Models for the tests of the published architectures, and the choice of the backend that this process tests.

`PIANOFARM_BACKEND` names the backend; `test_other_backend.py` runs the tests that depend on it once more with the other one.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from pianofarm_common.models import ModelInfo, read_model
from pianofarm_worker.synth import backend
from pianofarm_worker.synth.published.checkpoints import import_checkpoint, write_model
from pianofarm_worker.synth.published.configs import (
    DAFX22,
    ENSTDKCL_8KHZ,
    Context,
    Monophonic,
    PublishedConfig,
    Reverb,
    Synthesis,
)
from pianofarm_worker.synth.published.variables import variables

#: Where each published checkpoint lies in the reference material.
CHECKPOINTS = {
    "dafx22": "models/dafx22",
    "maestro-v2-random": "parity/maestro-v2-random",
    "ENSTDkCl-8kHz-random": "parity/ENSTDkCl-8kHz-random",
    "ENSTDkCl-32kHz-random": "parity/ENSTDkCl-32kHz-random",
}

#: dafx22 made small: the same parts, a hundredth of the work.
SMALL = dataclasses.replace(
    DAFX22,
    name="small",
    n_pianos=2,
    default_piano=1,
    context=Context(kind="polyphonic", n_dense=8, n_gru=8, n_out=8, pitch_divisor=128.0),
    monophonic=Monophonic(kind="dense", n_dense=16, n_gru=16, n_layers=1, normalize=True),
    synthesis=Synthesis(n_partials=12, n_noise_bands=16, scale="exp_sigmoid", normalize_audible=True),
    reverb=Reverb(kind="impulse_response", n_samples=4000, adds_dry=True),
)


@pytest.fixture(scope="session", autouse=True)
def chosen_backend() -> str:
    """The backend this process computes with."""
    name = os.environ.get("PIANOFARM_BACKEND") or "tensorflow"
    backend.choose(name)
    return name


def random_weights(config: PublishedConfig, seed: int = 7) -> dict[str, np.ndarray]:
    """Weights that make sound, for a configuration nobody trained."""
    random = np.random.default_rng(seed)
    weights = {
        v.name: (0.3 * random.standard_normal(v.shape)).astype(np.float32).reshape(v.shape) for v in variables(config)
    }
    weights["release_s"] = np.array(0.2, np.float32)
    for name in ("slopes", "offsets"):
        weights[f"tuning/{name}"] = np.array({"slopes": [11.85, -10.84], "offsets": [-1.15, 0.54]}[name], np.float32)
        weights[f"tuning/{name}_modifier"] = np.zeros(2, np.float32)
    weights["reverb/ir"] = (weights["reverb/ir"] * np.exp(-np.arange(config.reverb.n_samples) / 500)).astype(np.float32)
    return weights


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> ModelInfo:
    """A model folder that needs no reference material."""
    return write_model(tmp_path_factory.mktemp("small") / "small", "small", SMALL, random_weights(SMALL))


@pytest.fixture(scope="session")
def imported(shared: Path, tmp_path_factory):
    """Model by name, imported from its published checkpoint once a session."""
    folder = Path(os.environ.get("PIANOFARM_TEST_MODELS") or tmp_path_factory.mktemp("imported"))

    def get(name: str) -> ModelInfo:
        if (folder / name).is_dir():
            return read_model(folder / name)
        return import_checkpoint(shared / CHECKPOINTS[name], folder / name)

    get.folder = folder
    return get


__all__ = ["CHECKPOINTS", "ENSTDKCL_8KHZ", "SMALL", "random_weights"]
