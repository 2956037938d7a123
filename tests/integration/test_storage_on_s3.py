"""S3BlobStore against a real S3 server."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydantic import SecretStr
from services import wait_until

from pianofarm_common.errors import BadSettings, LimitExceeded, NotFound, ServiceUnavailable
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore
from pianofarm_common.storage.s3 import ASK_BYTES


def test_what_was_put_comes_back(s3_store: S3BlobStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    s3_store.put("t1/big", data, "audio/wav")
    s3_store.put("t1/empty", b"")
    assert s3_store.get("t1/big") == data
    assert s3_store.get("t1/empty") == b""
    assert s3_store.download("t1/big", tmp_path / "deep" / "big") == len(data)
    assert (tmp_path / "deep" / "big").read_bytes() == data
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["big"]
    assert list(s3_store.list("t1/")) == ["t1/big", "t1/empty"]
    s3_store.delete("t1/big")
    s3_store.delete("t1/big")
    assert not s3_store.exists("t1/big")
    assert s3_store.exists("t1/empty")


def test_small_bodies_are_sent_without_asking_first_and_large_ones_are_not(s3_settings: Settings) -> None:
    store, asked = S3BlobStore.from_settings(s3_settings), []
    store._s3.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: asked.append("Expect" in request.headers)
    )
    for n_bytes in (0, ASK_BYTES - 1, ASK_BYTES):
        store.put("t5/body", bytes(n_bytes))
        assert store.get("t5/body") == bytes(n_bytes)
    assert asked == [False, False, True]
    store.close()


def test_a_missing_object_is_not_found_and_leaves_no_file(s3_store: S3BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no/such"):
        s3_store.get("no/such")
    with pytest.raises(NotFound, match="no/such"):
        s3_store.download("no/such", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_presigned_url_needs_no_credentials(s3_store: S3BlobStore) -> None:
    s3_store.put("t2/shared", b"for everybody")
    with urllib.request.urlopen(s3_store.presign("t2/shared", 60)) as answer:  # noqa: S310
        assert answer.read() == b"for everybody"


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_presigned_url_lapses_and_opens_no_other_object(s3_store: S3BlobStore) -> None:
    s3_store.put("t2/shared", b"for everybody")
    s3_store.put("t2/secret", b"for nobody")
    url = s3_store.presign("t2/shared", 3600)
    assert status_of(url) == 200
    assert status_of(url.replace("t2/shared", "t2/secret")) == 403
    assert status_of(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200")) == 403
    assert status_of(url.partition("?")[0]) == 403
    short = s3_store.presign("t2/shared", 1)
    wait_until(lambda: status_of(short) == 403, "the URL lapses")
    assert status_of(url) == 200


def test_an_object_too_large_for_its_reader_is_refused_and_the_connection_lives_on(s3_store: S3BlobStore) -> None:
    s3_store.put("t4/large", b"x" * 1_000_001)
    with pytest.raises(LimitExceeded, match="1000001 bytes, more than the 1000"):
        s3_store.get("t4/large", 1000)
    assert len(s3_store.get("t4/large", 1_000_001)) == 1_000_001


def test_making_the_bucket_twice_is_fine_and_a_missing_one_is_said(s3_settings: Settings) -> None:
    store = S3BlobStore.from_settings(s3_settings.model_copy(update={"s3_bucket": "another-bucket"}))
    with pytest.raises(ServiceUnavailable, match="another-bucket"):
        store.put("x", b"x")
    store.ensure_bucket()
    store.ensure_bucket()
    store.put("x", b"x")
    assert store.get("x") == b"x"


def test_refused_credentials_name_the_settings_but_not_their_values(s3_settings: Settings) -> None:
    store = S3BlobStore.from_settings(s3_settings.model_copy(update={"s3_access_key": SecretStr("somebody-else")}))
    with pytest.raises(BadSettings, match="PIANOFARM_S3_ACCESS_KEY") as caught:
        store.get("t1/empty")
    assert "the-secret-key" not in str(caught.value)
    assert "somebody-else" not in str(caught.value)
