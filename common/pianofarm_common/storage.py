"""Where bytes live: BlobStore and its two adapters, S3 and a local folder. Vendor errors are translated here and nowhere else."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Protocol, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from urllib3.exceptions import HTTPError as Urllib3Error

from pianofarm_common.errors import BadOption, BadSettings, DiskFull, NotFound, Permanent, ServiceUnavailable
from pianofarm_common.settings import Settings

#: Bytes moved at a time when an object is copied to a file.
CHUNK_BYTES = 1 << 20

#: Ends the name of a file that is not complete yet.
PART_SUFFIX = ".part"

#: Refusals that heal by themselves or with the clock.
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})

#: 4xx answers after which another try may help.
RETRY_STATUS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})


class BlobStore(Protocol):
    """A flat space of objects. Every method raises ServiceUnavailable where another try may help and Permanent where not."""

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Store an object, all of it or nothing; replaces one of the same key."""

    def get(self, key: str) -> bytes:
        """The bytes of an object.

        Raises:
            NotFound: no such object.
        """

    def download(self, key: str, path: Path) -> int:
        """Write an object to a file under a temporary name, then rename; returns its size in bytes.

        Raises:
            NotFound: no such object.
            DiskFull: no room; nothing is left behind.
        """

    def exists(self, key: str) -> bool:
        """True if there is such an object."""

    def delete(self, key: str) -> None:
        """Remove an object; removing one that is not there is no error."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in order."""

    def presign(self, key: str, ttl_s: int) -> str:
        """A URL that lets anybody read the object for this long."""


def midi_object(performance_sha256: str) -> str:
    """Object key of a canonical performance."""
    return f"midi/{performance_sha256}.mid"


def audio_object(render_key: str, extension: str) -> str:
    """Object key of a render's audio; the two digits spread keys over a store's partitions."""
    return f"renders/{render_key[:2]}/{render_key}/audio.{extension}"


def dry_object(render_key: str, extension: str) -> str:
    """Object key of a render's sound before the room."""
    return f"renders/{render_key[:2]}/{render_key}/dry.{extension}"


def sidecar_object(render_key: str) -> str:
    """Object key of a render's JSON sidecar."""
    return f"renders/{render_key[:2]}/{render_key}/result.json"


def model_object(digest: str, file_name: str) -> str:
    """Object key of one file of a model."""
    return f"models/{digest}/{file_name}"


class LocalBlobStore:
    """Objects as files below a folder; for one machine and for renders without services."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.folder / key))
        if not key or not path.is_relative_to(Path(os.path.normpath(self.folder))) or path == self.folder:
            raise BadOption(f"object key {key!r} leads out of the store's folder")
        return path

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:  # noqa: ARG002
        """As `BlobStore.put`; the content type is not kept."""
        _write_then_rename(self._path(key), lambda file: file.write(data))

    def get(self, key: str) -> bytes:
        """As `BlobStore.get`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"no object {key!r} in {self.folder}") from None

    def download(self, key: str, path: Path) -> int:
        """As `BlobStore.download`."""
        source = self._path(key)
        if not source.is_file():
            raise NotFound(f"no object {key!r} in {self.folder}")

        def copy(file: IO[bytes]) -> None:
            with source.open("rb") as original:
                shutil.copyfileobj(original, file, CHUNK_BYTES)

        return _write_then_rename(path, copy)

    def exists(self, key: str) -> bool:
        """As `BlobStore.exists`."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """As `BlobStore.delete`."""
        self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[str]:
        """As `BlobStore.list`."""
        keys = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        yield from sorted(key for key in keys if key.startswith(prefix) and not key.endswith(PART_SUFFIX))

    def presign(self, key: str, ttl_s: int) -> str:  # noqa: ARG002
        """A `file://` URL; it does not lapse."""
        return self._path(key).absolute().as_uri()


class S3BlobStore:
    """Objects in one bucket of an S3-compatible store. Thread-safe; make one per process (a client costs 65-85 ms)."""

    def __init__(self, client: Any, bucket: str, endpoint: str) -> None:
        self._s3 = client
        self.bucket = bucket
        self.endpoint = endpoint

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A store on `s3_endpoint`; connects at the first call.

        Raises:
            BadSettings: the endpoint is no URL, or no credentials can be found.
        """
        access, secret = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
        try:
            client = boto3.session.Session().client(
                "s3",
                endpoint_url=settings.s3_endpoint or None,
                region_name=settings.s3_region,
                aws_access_key_id=access or None,
                aws_secret_access_key=secret or None,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path"},
                    connect_timeout=min(settings.s3_timeout_s, 5.0),
                    read_timeout=settings.s3_timeout_s,
                    retries={"mode": "standard", "total_max_attempts": 3},
                    # Newer boto3 adds a checksum trailer to every put: a third slower, and some stores refuse it.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    max_pool_connections=16,
                ),
            )
        except (ValueError, BotoCoreError) as error:
            raise BadSettings(f"PIANOFARM_S3_ENDPOINT={settings.s3_endpoint!r} cannot be used: {error}") from None
        return cls(client, settings.s3_bucket, settings.s3_endpoint or "Amazon S3")

    def close(self) -> None:
        """Close the connections."""
        self._s3.close()

    def ensure_bucket(self) -> None:
        """Make the bucket if it is not there.

        Raises:
            ServiceUnavailable: the store does not answer.
            BadSettings: it refuses our credentials.
        """
        with self._translated("bucket"):
            try:
                self._s3.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if _status(error) != HTTPStatus.NOT_FOUND:
                    raise
                self._create_bucket()

    def _create_bucket(self) -> None:
        region = self._s3.meta.region_name
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self._s3.create_bucket(Bucket=self.bucket, **where)
        except ClientError as error:
            # Two processes may start at once: the bucket is there, which is what was wanted.
            if _code(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """As `BlobStore.put`."""
        with self._translated(key):
            self._s3.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def get(self, key: str) -> bytes:
        """As `BlobStore.get`."""
        with self._translated(key):
            body: bytes = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            return body

    def download(self, key: str, path: Path) -> int:
        """As `BlobStore.download`."""
        with self._translated(key):
            answer = self._s3.get_object(Bucket=self.bucket, Key=key)

            def copy(file: IO[bytes]) -> None:
                for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                    file.write(chunk)
                if file.tell() != answer["ContentLength"]:
                    got, wanted = file.tell(), answer["ContentLength"]
                    raise ServiceUnavailable(
                        f"object {key!r} from {self.endpoint} ended after {got} of {wanted} bytes: try again"
                    )

            return _write_then_rename(path, copy)

    def exists(self, key: str) -> bool:
        """As `BlobStore.exists`."""
        try:
            with self._translated(key):
                self._s3.head_object(Bucket=self.bucket, Key=key)
        except NotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        """As `BlobStore.delete`."""
        with self._translated(key):
            self._s3.delete_object(Bucket=self.bucket, Key=key)

    def list(self, prefix: str) -> Iterator[str]:
        """As `BlobStore.list`; one request per thousand objects."""
        with self._translated(prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield item["Key"]

    def presign(self, key: str, ttl_s: int) -> str:
        """As `BlobStore.presign`; signed here, no request is made, so the object may not exist."""
        with self._translated(key):
            url: str = self._s3.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=ttl_s
            )
            return url

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Turn botocore's errors into ours; messages name the endpoint and the object, never a credential."""
        where = f"{self.endpoint}, bucket {self.bucket!r}"
        try:
            yield
        except ClientError as error:
            status, code = _status(error), _code(error)
            if code == "NoSuchBucket":
                raise ServiceUnavailable(
                    f"{where}: there is no such bucket yet; create it, or set PIANOFARM_S3_BUCKET"
                ) from None
            if status == HTTPStatus.NOT_FOUND:
                raise NotFound(f"no object {key!r} at {where}") from None
            if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and code not in CLOCK_CODES:
                raise BadSettings(
                    f"{where} refused {key!r} ({code}): check PIANOFARM_S3_ACCESS_KEY, PIANOFARM_S3_SECRET_KEY and their rights"
                ) from None
            if code in CLOCK_CODES or status in RETRY_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ServiceUnavailable(f"{where} answered {status} {code} for {key!r}: try again later") from None
            raise Permanent(f"{where} answered {status} {code} for {key!r}") from None
        except NoCredentialsError:
            raise BadSettings(
                f"no credentials for {where}: set PIANOFARM_S3_ACCESS_KEY and PIANOFARM_S3_SECRET_KEY"
            ) from None
        except (BotoCoreError, Urllib3Error) as error:
            raise ServiceUnavailable(
                f"object store {where} does not answer ({type(error).__name__}): start it ('pianofarm up') "
                "or set PIANOFARM_S3_ENDPOINT"
            ) from None


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _write_then_rename(path: Path, write: Callable[[IO[bytes]], object]) -> int:
    """Write a file under a temporary name in the same folder, flush it to the device, rename it; returns its size in bytes.

    Raises:
        DiskFull: no room or quota; nothing is left behind.
        Permanent: the folder cannot be written to.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
            n_bytes = file.tell()
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, (ConnectionError, TimeoutError)):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for {path}: free some space on its device and try again") from None
        raise Permanent(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return n_bytes
