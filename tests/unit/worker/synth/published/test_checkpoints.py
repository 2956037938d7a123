"""Published TensorFlow checkpoints become model folders, the same ones every time; anything else is refused in one line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from pianofarm_common.errors import BadModel
from pianofarm_common.models import read_model
from pianofarm_worker.synth.published.checkpoints import import_checkpoint, recognise, write_model
from pianofarm_worker.synth.published.configs import DAFX22, PUBLISHED, PublishedConfig
from pianofarm_worker.synth.published.variables import variables

from .conftest import CHECKPOINTS, SMALL, random_weights


def shapes_of(config):
    return {v.source: v.source_shape for v in variables(config)}


@pytest.mark.parametrize(
    ("name", "architecture", "sample_rate_hz", "n_pianos"),
    [
        ("dafx22", "dafx22", 16_000, 10),
        ("maestro-v2-random", "maestro-v2", 24_000, 10),
        ("ENSTDkCl-8kHz-random", "enstdkcl", 8_000, 1),
        ("ENSTDkCl-32kHz-random", "enstdkcl", 32_000, 1),
    ],
)
def test_a_published_checkpoint_is_recognised_by_its_variables(imported, name, architecture, sample_rate_hz, n_pianos):
    info = imported(name)
    assert (info.name, info.architecture) == (name, architecture)
    assert (info.sample_rate_hz, info.n_pianos, info.max_polyphony) == (sample_rate_hz, n_pianos, 16)
    assert info.licence == "Apache-2.0"
    assert {path.name for path in info.path.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_importing_twice_gives_the_same_digest(shared, imported, tmp_path):
    again = import_checkpoint(shared / CHECKPOINTS["dafx22"], tmp_path / "elsewhere", "dafx22")
    assert again.digest == imported("dafx22").digest
    renamed = import_checkpoint(shared / CHECKPOINTS["dafx22"], tmp_path / "elsewhere", "other")
    assert renamed.digest != again.digest
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_a_truncated_checkpoint_is_refused_in_one_line(shared, tmp_path):
    source = tmp_path / "truncated"
    source.mkdir()
    for path in (shared / CHECKPOINTS["ENSTDkCl-8kHz-random"]).iterdir():
        if path.name != "expected.npz":
            shutil.copyfile(path, source / path.name)
    data = next(source.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(BadModel, match="damaged or incomplete") as refused:
        import_checkpoint(source, tmp_path / "model")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("content", [b"", b"not an index"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    with pytest.raises(BadModel, match="holds no TensorFlow checkpoint"):
        import_checkpoint(tmp_path, tmp_path / "model")
    (tmp_path / "ckpt-0.index").write_bytes(content)
    with pytest.raises(BadModel, match="damaged or incomplete"):
        import_checkpoint(tmp_path, tmp_path / "model")


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config.name)
def test_every_published_configuration_is_recognised(config):
    assert recognise(shapes_of(config), "here") == config


def test_a_model_trained_on_other_pianos_is_recognised():
    four = dataclasses.replace(DAFX22, n_pianos=4)
    assert recognise(shapes_of(four), "here") == four


def test_an_unknown_architecture_names_the_variable_that_differs():
    shapes = shapes_of(DAFX22)
    shapes["model/monophonic_network/dense_out/bias"] = (200,)
    with pytest.raises(BadModel, match=r"dafx22 has model/monophonic_network/dense_out/bias \[161\], this has \[200\]"):
        recognise(shapes, "here")


def test_a_name_that_is_a_path_is_refused(tmp_path):
    with pytest.raises(BadModel, match="no name for a model"):
        write_model(tmp_path / "model", "../up", SMALL, random_weights(SMALL))


def test_a_configuration_survives_its_json(small_model):
    values = json.loads((small_model.path / "config.json").read_text())
    assert PublishedConfig.from_json(values["published"]) == SMALL
    for damage in ({}, {**values["published"], "context": {"kind": "film"}}, {**values["published"], "extra": 1}):
        with pytest.raises(BadModel, match="import it again"):
            PublishedConfig.from_json(damage)


def test_a_model_folder_is_replaced_whole(tmp_path):
    weights = random_weights(SMALL)
    first = write_model(tmp_path / "model", "small", SMALL, weights)
    weights["release_s"] = np.array(0.3, np.float32)
    second = write_model(tmp_path / "model", "small", SMALL, weights)
    assert first.digest != second.digest == read_model(tmp_path / "model").digest
