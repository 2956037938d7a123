"""The registry on a prefix of a real object store: published by one machine, found, fetched and checked by others."""

import json
from pathlib import Path

import pytest
from farm import make_model
from pydantic import SecretStr

from pianofarm.cli import run
from pianofarm_common.errors import BadModel, BadSettings
from pianofarm_common.models import find_model
from pianofarm_common.registry import Registry
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, S3BlobStore
from pianofarm_worker.shelf import Shelf


@pytest.fixture
def machine(s3_settings: Settings, s3_store: S3BlobStore, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of a machine that knows the registry, and of no other farm; each test has a prefix of its own."""
    where = f"s3://{s3_store.bucket}/registry/{request.node.name}"
    return s3_settings.model_copy(update={"state_dir": tmp_path / "state", "registry": where})


def test_what_one_machine_publishes_another_finds_by_name_and_a_worker_by_its_digest(
    machine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = make_model(tmp_path / "one")
    for name in ("s3_endpoint", "s3_access_key", "s3_secret_key", "registry"):
        value = getattr(machine, name)
        secret = value.get_secret_value() if isinstance(value, SecretStr) else value
        monkeypatch.setenv(f"PIANOFARM_{name.upper()}", secret)
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "one"))
    for sent in (True, False):
        assert run(["models", "publish", "sine", "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["sent"] is sent

    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "two"))
    assert run(["models", "list"]) == 0
    assert f"{digest[:12]} (registry)" in capsys.readouterr().out
    assert run(["models", "info", "sine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "two" / "models" / digest)

    shelf = Shelf(
        LocalBlobStore(tmp_path / "empty"), machine.state_dir, lambda info: info, Registry.from_settings(machine)
    )
    shelf.piano(digest)
    assert find_model("sine", machine.state_dir).digest == digest


def test_a_model_that_was_changed_in_the_store_is_not_installed(
    machine: Settings, s3_store: S3BlobStore, tmp_path: Path
) -> None:
    registry = Registry.from_settings(machine)
    make_model(tmp_path / "one")
    registry.publish(find_model("sine", tmp_path / "one"))
    (weights,) = [key for key in s3_store.list(machine.registry.split("/", 3)[3]) if key.endswith(".safetensors")]
    s3_store.put(weights, b"other weights")
    with pytest.raises(BadModel):
        registry.fetch("sine", machine.state_dir)
    assert not (machine.state_dir / "models").exists()


def test_credentials_that_the_store_refuses_are_named_without_their_values(machine: Settings) -> None:
    wrong = {"s3_access_key": SecretStr("not-the-access-key"), "s3_secret_key": SecretStr("not-the-secret-key")}
    stranger = machine.model_copy(update=wrong)
    with pytest.raises(BadSettings) as refused:
        Registry.from_settings(stranger).entries()
    assert "not-the" not in str(refused.value)
