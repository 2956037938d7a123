"""S3BlobStore: objects in a bucket of an S3-compatible store. The only place that knows botocore's errors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from urllib3.exceptions import HTTPError as Urllib3Error

from pianofarm_common.errors import BadSettings, NotFound, Permanent, ServiceUnavailable
from pianofarm_common.settings import Settings
from pianofarm_common.storage.files import CHUNK_BYTES, write_then_rename
from pianofarm_common.storage.store import check_size

#: Refusals that heal by themselves or with the clock.
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})

#: 4xx answers after which another try may help.
RETRY_STATUS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})

#: A smaller body is sent along with its request. Asking first whether the store wants it costs a round trip: 58 ms instead of 34
#: where the store is 20 ms away.
ASK_BYTES = 64 << 10

#: What botocore has read about S3 in this process; nothing of anybody's settings or credentials.
_descriptions: Any = None


class S3BlobStore:
    """Objects in one bucket of an S3-compatible store. Thread-safe; make one per process (the first client costs 80-170 ms)."""

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
            client = boto3.session.Session(botocore_session=_session()).client(
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
            client.meta.events.register("request-created.s3.PutObject", _ask_before_large_bodies_only)
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

    def get(self, key: str, max_bytes: int | None = None) -> bytes:
        """As `BlobStore.get`."""
        with self._translated(key):
            answer = self._s3.get_object(Bucket=self.bucket, Key=key)
            with closing(answer["Body"]):
                check_size(key, answer["ContentLength"], max_bytes)
                body: bytes = answer["Body"].read()
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

            return write_then_rename(path, copy)

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
        return (key for key, _ in self.dated(prefix))

    def dated(self, prefix: str) -> Iterator[tuple[str, float]]:
        """As `BlobStore.dated`; one request per thousand objects."""
        with self._translated(prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield item["Key"], item["LastModified"].timestamp()

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
            if code in CLOCK_CODES:
                raise ServiceUnavailable(
                    f"{where} answered {status} {code} for {key!r}: the clock of this machine is wrong, set it (NTP)"
                ) from None
            if status in RETRY_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ServiceUnavailable(f"{where} answered {status} {code} for {key!r}: try again later") from None
            raise Permanent(f"{where} answered {status} {code} for {key!r}") from None
        except NoCredentialsError:
            raise BadSettings(
                f"no credentials for {where}: start a local farm ('pianofarm up'), "
                "or set PIANOFARM_S3_ACCESS_KEY and PIANOFARM_S3_SECRET_KEY"
            ) from None
        except (BotoCoreError, Urllib3Error) as error:
            raise ServiceUnavailable(
                f"object store {where} does not answer ({type(error).__name__}): start it ('pianofarm up') "
                "or set PIANOFARM_S3_ENDPOINT"
            ) from None


def prepare_s3() -> None:
    """Read what is known of S3, for this process and those that it forks. Opens no connection, asks nobody for credentials."""
    session = boto3.session.Session("none", "none", region_name="us-east-1", botocore_session=_session())
    session.client("s3").close()


def _session() -> botocore.session.Session:
    """A session that shares with those before it what is known of S3, which takes 60 to 100 ms to read; so does that of a fork."""
    global _descriptions
    session = botocore.session.Session()
    if _descriptions is None:
        _descriptions = session.get_component("data_loader")
    session.register_component("data_loader", _descriptions)
    return session


def _ask_before_large_bodies_only(request: Any, **_: Any) -> None:
    """Called with each request that is made: botocore has it ask ("Expect: 100-continue") before every body."""
    if isinstance(request.data, io.BytesIO) and request.data.getbuffer().nbytes < ASK_BYTES:
        del request.headers["Expect"]


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
