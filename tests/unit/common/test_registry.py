"""The registry: models in a folder that several machines share, fetched once and checked."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pianofarm.cli import run
from pianofarm.models import resolve_model
from pianofarm_common.errors import BadModel, BadSettings, UnknownModel
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, ModelInfo, catalogue, find_model, read_model
from pianofarm_common.registry import Registry
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore
from pianofarm_worker.shelf import Shelf


def a_model(folder: Path, name: str = "mine", weights: bytes = b"weights") -> ModelInfo:
    """A model folder of the right shape; its weights are never loaded here."""
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "architecture": "house",
        "sample_rate_hz": 32_000,
        "channels": 2,
        "n_pianos": 1,
        "default_piano": 0,
        "max_polyphony": None,
        "licence": "CC0-1.0",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text("# mine")
    return read_model(folder)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Settings of a machine whose registry is a folder with one model."""
    settings = Settings(state_dir=tmp_path / "state", registry=str(tmp_path / "registry"))
    assert Registry.from_settings(settings).publish(a_model(tmp_path / "made"))
    return settings


def test_a_model_is_fetched_by_name_once_and_found_at_hand_from_then_on(settings, tmp_path):
    registry = Registry.from_settings(settings)
    fetched = resolve_model("mine", settings.state_dir, registry)
    shutil.rmtree(tmp_path / "registry")

    assert fetched.path == settings.state_dir / "models" / fetched.digest
    assert (fetched.path / "README.md").read_text() == "# mine"
    assert resolve_model("mine", settings.state_dir, registry) == fetched
    assert find_model(fetched.digest[:10], settings.state_dir) == fetched
    assert [path.name for path in settings.state_dir.iterdir()] == ["models"]


def test_a_model_is_fetched_by_the_beginning_of_its_digest(settings):
    registry = Registry.from_settings(settings)
    (entry,) = registry.entries()

    assert (entry.name, entry.architecture, entry.licence) == ("mine", "house", "CC0-1.0")
    assert registry.fetch(entry.digest[:8], settings.state_dir).digest == entry.digest


def test_a_damaged_model_is_not_installed(settings, tmp_path):
    (weights,) = (tmp_path / "registry").glob("*/model.safetensors")
    weights.write_bytes(b"other")

    with pytest.raises(BadModel, match="is damaged: its digest is"):
        Registry.from_settings(settings).fetch("mine", settings.state_dir)
    assert not (settings.state_dir / "models").exists()
    assert not list(settings.state_dir.glob(".model*"))


def test_a_model_that_is_nowhere_is_an_error_that_lists_both_places(settings):
    with pytest.raises(UnknownModel, match=r"known are default, house-2.*registry: there is mine"):
        resolve_model("yours", settings.state_dir, Registry.from_settings(settings))


def test_two_models_of_one_name_must_be_told_apart(settings, tmp_path):
    registry = Registry.from_settings(settings)
    registry.publish(a_model(tmp_path / "again", weights=b"better weights"))

    with pytest.raises(UnknownModel, match="has 2 models 'mine': say which"):
        registry.fetch("mine", settings.state_dir)


def test_publishing_again_sends_nothing(settings, tmp_path):
    assert not Registry.from_settings(settings).publish(read_model(tmp_path / "made"))


def test_a_worker_fetches_an_unknown_digest_from_the_registry(settings, tmp_path):
    digest = read_model(tmp_path / "made").digest
    loaded: list[ModelInfo] = []
    store = LocalBlobStore(tmp_path / "store")
    Shelf(store, settings.state_dir, loaded.append, Registry.from_settings(settings)).piano(digest)

    assert [info.digest for info in loaded] == [digest]
    with pytest.raises(UnknownModel, match="neither on this worker nor in the store nor in the registry"):
        Shelf(store, settings.state_dir, loaded.append, Registry.from_settings(settings)).piano("0" * 64)


def test_the_store_of_the_farm_comes_before_the_registry(settings, tmp_path):
    model = a_model(tmp_path / "other", "other")
    store = LocalBlobStore(tmp_path / "store")
    Registry(store, "models/", "the store").publish(model)
    shutil.rmtree(tmp_path / "registry")

    Shelf(store, settings.state_dir, lambda info: info, Registry.from_settings(settings)).piano(model.digest)
    assert find_model("other", settings.state_dir).digest == model.digest


@pytest.mark.parametrize("where", ["http://models.example", "s3://", "s3://ab/models"])
def test_a_registry_must_be_a_folder_or_an_s3_prefix(where):
    with pytest.raises(BadSettings, match="s3://bucket/prefix"):
        Registry.from_settings(Settings(registry=where))


def test_without_the_setting_there_is_no_registry():
    assert Registry.from_settings(Settings(registry="")) is None


def test_one_model_in_three_folders_is_listed_once(tmp_path):
    model = a_model(tmp_path / "models" / "mine")
    for name in (model.digest, "mine-0a1b2c3d"):
        shutil.copytree(model.path, tmp_path / "models" / name)

    listed = [found for found in catalogue(tmp_path) if found.name == "mine"]
    assert len(listed) == 1
    assert dataclasses.replace(listed[0], path=model.path) == model


def test_the_commands_publish_list_import_and_describe(tmp_path, monkeypatch, capsys):
    model = a_model(tmp_path / "made")
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "one"))
    monkeypatch.setenv("PIANOFARM_REGISTRY", str(tmp_path / "registry"))
    assert run(["models", "import", str(model.path)]) == 0
    assert run(["models", "publish", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["sent"] is True

    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "two"))
    assert run(["models", "list"]) == 0
    assert f"{model.digest[:12]} (registry)" in capsys.readouterr().out
    assert run(["models", "info", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "two" / "models" / model.digest)
    assert run(["models", "list"]) == 0
    assert "(registry)" not in capsys.readouterr().out


def test_commands_that_cannot_do_it_say_so_in_one_line(tmp_path, monkeypatch, capsys):
    model = a_model(tmp_path / "made")
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PIANOFARM_REGISTRY", raising=False)
    for arguments, complaint in (
        (["publish", str(model.path)], "there is no registry: set PIANOFARM_REGISTRY"),
        (["import", str(model.path), "--name", "other"], "a model keeps the name it was trained under, 'mine'"),
        (["import", str(tmp_path / "nowhere")], "is no folder"),
    ):
        assert run(["models", *arguments]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert complaint in line


def test_verify_finds_a_fetched_model_that_was_changed(settings, monkeypatch, capsys):
    fetched = resolve_model("mine", settings.state_dir, Registry.from_settings(settings))
    (fetched.path / "model.safetensors").write_bytes(b"longer than before")
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(settings.state_dir))

    assert run(["models", "verify", "mine"]) == 2
    assert "is damaged: its digest is" in capsys.readouterr().err


def test_verify_finds_an_imported_model_that_was_changed_and_nothing_imports_it_again(tmp_path, monkeypatch, capsys):
    made, state = tmp_path / "made", tmp_path / "state"
    shutil.copytree(PACKAGED_DIR / DEFAULT_MODEL, made)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"name": "mine"}))
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(state))
    monkeypatch.delenv("PIANOFARM_REGISTRY", raising=False)
    digest = read_model(made).digest

    assert run(["models", "verify", str(made)]) == 0
    assert "no earlier one is known to compare it with" in capsys.readouterr().out
    assert run(["models", "import", str(made)]) == 0
    assert find_model("mine", state).digest == digest
    capsys.readouterr()
    assert run(["models", "verify", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"] is True

    weights = state / "models" / "mine" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    for arguments in (["verify", "mine"], ["import", str(shutil.copytree(weights.parent, tmp_path / "copy"))]):
        monkeypatch.setenv("PIANOFARM_STATE_DIR", str(state if arguments[0] == "verify" else tmp_path / "other"))
        assert run(["models", *arguments]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "was changed since it was imported or trained" in line
        assert f"was '{digest[:12]}'; remove it and import it again" in line
