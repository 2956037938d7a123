"""LocalBlobStore, and what S3BlobStore says when there is nobody."""

import errno
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pianofarm_common.errors import (
    BadOption,
    BadSettings,
    DiskFull,
    LimitExceeded,
    NotFound,
    Permanent,
    ServiceUnavailable,
)
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, S3BlobStore, audio_object, dry_object, midi_object, sidecar_object


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    store.put("a/c", b"")
    assert store.get("a/b") == b"two"
    assert store.get("a/c") == b""
    assert store.exists("a/b")
    assert not store.exists("a")
    assert list(store.list("a/")) == ["a/b", "a/c"]
    assert list(store.list("b")) == []
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")


def test_a_missing_object_is_named_in_the_error(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)
    with pytest.raises(NotFound, match="renders/x"):
        store.get("renders/x")
    with pytest.raises(NotFound, match="renders/x"):
        store.download("renders/x", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", ".", "../x", "a/../../x", "/etc/passwd"])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = LocalBlobStore(tmp_path / "store")
    with pytest.raises(BadOption, match="folder"):
        store.put(key, b"x")


def test_a_full_disk_leaves_nothing_behind_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalBlobStore(tmp_path / "store")
    store.put("a", b"new")
    target = tmp_path / "out" / "a.wav"
    target.parent.mkdir()
    target.write_bytes(b"old")

    def no_room(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(DiskFull, match=r"a\.wav"):
        store.download("a", target)
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_cannot_be_written_is_a_permanent_error(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)
    store.put("a", b"x")
    with pytest.raises(Permanent, match="cannot write"):
        store.download("a", tmp_path / "a" / "below-a-file")


def test_object_keys_of_a_render_share_a_folder() -> None:
    key = "ab" + "0" * 62
    assert {audio_object(key, "wav"), dry_object(key, "wav"), sidecar_object(key)} == {
        f"renders/ab/{key}/{name}" for name in ("audio.wav", "dry.wav", "result.json")
    }
    assert midi_object("f" * 64) == f"midi/{'f' * 64}.mid"


def test_an_s3_server_that_is_not_there_is_named_but_no_secret_is() -> None:
    settings = Settings(
        s3_endpoint="http://127.0.0.1:9",
        s3_access_key="the-access-key",
        s3_secret_key="the-secret-key",
        s3_timeout_s=1.0,
    )
    store = S3BlobStore.from_settings(settings)
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9.*PIANOFARM_S3_ENDPOINT") as caught:
        store.get("x")
    assert "the-secret" not in str(caught.value)
    assert "the-access" not in str(caught.value)


def test_an_endpoint_that_is_no_url_is_a_bad_setting() -> None:
    with pytest.raises(BadSettings, match="PIANOFARM_S3_ENDPOINT"):
        S3BlobStore.from_settings(Settings(s3_endpoint="nonsense", s3_access_key="a", s3_secret_key="b"))


def test_an_object_that_is_larger_than_its_reader_takes_is_refused(tmp_path):
    store = LocalBlobStore(tmp_path)
    store.put("midi/large", b"x" * 1001)
    assert len(store.get("midi/large", 1001)) == 1001
    with pytest.raises(LimitExceeded, match="1001 bytes, more than the 1000"):
        store.get("midi/large", 1000)


def test_a_store_that_refuses_the_time_of_this_machine_says_so_and_is_tried_again() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<Error><Code>RequestTimeTooSkewed</Code><Message>an hour off</Message></Error>"
            self.send_response(HTTPStatus.FORBIDDEN)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        settings = Settings(s3_endpoint=endpoint, s3_access_key="key", s3_secret_key="secret-key-of-the-test")
        with pytest.raises(ServiceUnavailable, match="the clock of this machine is wrong"):
            S3BlobStore.from_settings(settings).get("midi/some")
        server.shutdown()
