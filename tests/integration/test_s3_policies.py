"""The policies of deploy/s3/policies in a real S3 server that enforces them: each part of the farm does its work and no other's."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from pydantic import SecretStr
from services import free_port, start_s3

from pianofarm_common.errors import BadSettings, NotFound
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore, audio_object, midi_object, sidecar_object

POLICIES = Path(__file__).resolve().parents[2] / "deploy" / "s3" / "policies"
ROLES = ("producer", "worker", "sweeper", "operator")
MIDI, AUDIO, SIDECAR = midi_object("a" * 64), audio_object("b" * 64, "wav"), sidecar_object("b" * 64)
MODEL = "models/" + "c" * 64 + "/weights"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, S3BlobStore]]:
    """The bucket of the policies, as each role has it; `root` made it."""
    port, folder = free_port(), tmp_path_factory.mktemp("s3")
    server = start_s3(folder, port, "the-root-key", "the-root-secret", services="s3,iam")
    endpoint = f"http://127.0.0.1:{port}"
    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="the-root-key",
        aws_secret_access_key="the-root-secret",
    )
    settings = Settings(s3_endpoint=endpoint, s3_access_key="the-root-key", s3_secret_key="the-root-secret")
    found = {"root": S3BlobStore.from_settings(settings)}
    found["root"].ensure_bucket()
    for role in ROLES:
        iam.create_user(UserName=role)
        iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=(POLICIES / f"{role}.json").read_text())
        key = iam.create_access_key(UserName=role)["AccessKey"]
        secrets = {"s3_access_key": SecretStr(key["AccessKeyId"]), "s3_secret_key": SecretStr(key["SecretAccessKey"])}
        found[role] = S3BlobStore.from_settings(settings.model_copy(update=secrets))
    yield found
    iam.close()
    for store in found.values():
        store.close()
    server.stop()


@pytest.fixture(autouse=True)
def objects(stores: dict[str, S3BlobStore]) -> None:
    for key in (MIDI, AUDIO, SIDECAR, MODEL):
        stores["root"].put(key, b"as it was")


def refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except BadSettings as error:
        assert "their rights" in str(error)
        return True
    return False


def rights(store: S3BlobStore) -> dict[str, str]:
    """What a role may do with objects of each kind: g(et), p(ut), d(elete)."""
    acts: dict[str, Callable[[str], object]] = {
        "g": store.get,
        "p": lambda key: store.put(key, b"changed"),
        "d": store.delete,
    }
    kinds = {"midi": MIDI, "audio": AUDIO, "sidecar": SIDECAR, "model": MODEL, "other": "other/x"}
    return {
        kind: "".join(letter for letter, act in acts.items() if not refused(lambda act=act, key=key: attempt(act, key)))
        for kind, key in kinds.items()
    }


def attempt(act: Callable[[str], object], key: str) -> None:
    try:
        act(key)
    except NotFound:
        return


def test_each_role_has_its_rights_and_no_more(stores: dict[str, S3BlobStore]) -> None:
    assert {role: rights(stores[role]) for role in ROLES} == {
        "producer": {"midi": "p", "audio": "g", "sidecar": "g", "model": "g", "other": ""},
        "worker": {"midi": "g", "audio": "gp", "sidecar": "gp", "model": "g", "other": ""},
        "sweeper": {"midi": "gd", "audio": "gd", "sidecar": "gd", "model": "", "other": ""},
        "operator": dict.fromkeys(("midi", "audio", "sidecar", "model", "other"), "gpd"),
    }


def test_what_is_not_there_is_missing_and_not_forbidden(stores: dict[str, S3BlobStore]) -> None:
    for role, key in (("producer", audio_object("d" * 64, "wav")), ("worker", midi_object("d" * 64))):
        with pytest.raises(NotFound):
            stores[role].get(key)
        assert not stores[role].exists(key)


def test_each_role_finds_the_bucket_and_none_but_its_maker_can_remove_it(stores: dict[str, S3BlobStore]) -> None:
    for role in ROLES:
        stores[role].ensure_bucket()
        assert MIDI in list(stores[role].list("midi/"))
        with pytest.raises(Exception, match="AccessDenied"):
            stores[role]._s3.delete_bucket(Bucket=stores[role].bucket)
        with pytest.raises(Exception, match="AccessDenied"):
            stores[role]._s3.put_object_acl(Bucket=stores[role].bucket, Key=AUDIO, ACL="public-read")


def test_the_policies_name_the_default_bucket_only(stores: dict[str, S3BlobStore]) -> None:
    for role in ROLES:
        policy = json.loads((POLICIES / f"{role}.json").read_text())
        resources = [resource for statement in policy["Statement"] for resource in statement["Resource"]]
        assert all(r == "arn:aws:s3:::pianofarm" or r.startswith("arn:aws:s3:::pianofarm/") for r in resources)
        assert all(":*" not in action for statement in policy["Statement"] for action in statement["Action"])


def test_a_link_that_a_producer_signs_opens_audio_and_not_the_music_of_others(stores: dict[str, S3BlobStore]) -> None:
    with urllib.request.urlopen(stores["producer"].presign(AUDIO, 60)) as answer:  # noqa: S310
        assert answer.read() == b"as it was"
    with pytest.raises(urllib.error.HTTPError, match="403") as refusal:
        urllib.request.urlopen(stores["producer"].presign(MIDI, 60))  # noqa: S310
    refusal.value.close()
