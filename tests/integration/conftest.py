"""A real Redis-compatible server and a real S3 server for every integration test, each in a process of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from farm import SineFarm, make_model
from pydantic import SecretStr
from services import free_port, start_redis, start_s3

from pianofarm_common.ledger import Ledger
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

REDIS_PASSWORD = "the-redis-password"
S3_ACCESS_KEY = "the-access-key"
S3_SECRET_KEY = "the-secret-key"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    process = start_redis(tmp_path_factory.mktemp("redis"), port, REDIS_PASSWORD)
    yield f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}/0"
    process.stop()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    process = start_s3(tmp_path_factory.mktemp("s3"), port, S3_ACCESS_KEY, S3_SECRET_KEY)
    yield f"http://127.0.0.1:{port}"
    process.stop()


@pytest.fixture
def redis_settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings with an empty Redis and short times."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return Settings(
        state_dir=tmp_path / "state",
        redis_url=redis_url,
        lease_s=2.0,
        heartbeat_s=0.4,
        sweep_interval_s=0.1,
        lost_message_s=2.0,
        backoff_base_s=0.05,
        backoff_max_s=0.2,
        soft_shutdown_s=5.0,
    )


@pytest.fixture
def ledger(redis_settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger.from_settings(redis_settings)
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def s3_settings(s3_endpoint: str) -> Settings:
    return Settings(
        s3_endpoint=s3_endpoint,
        s3_access_key=S3_ACCESS_KEY,
        s3_secret_key=S3_SECRET_KEY,
        s3_bucket="pianofarm-test",
    )


@pytest.fixture(scope="session")
def s3_store(s3_settings: Settings) -> S3BlobStore:
    store = S3BlobStore.from_settings(s3_settings)
    store.ensure_bucket()
    return store


@pytest.fixture
def settings(redis_settings: Settings, s3_settings: Settings, s3_store: S3BlobStore) -> Settings:
    """Settings of a whole farm: an empty Redis, an S3 bucket that exists."""
    names = ("s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")
    return redis_settings.model_copy(update={name: getattr(s3_settings, name) for name in names})


@pytest.fixture(scope="module")
def farm_at_work(
    redis_url: str, s3_settings: Settings, s3_store: S3BlobStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings of a farm with one sine worker, shared by the tests of a module: they must ask for different music."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("farm")
    settings = s3_settings.model_copy(
        update={"state_dir": folder / "state", "redis_url": SecretStr(redis_url), "model": "sine"}
    )
    make_model(settings.state_dir)
    processes = SineFarm(settings, folder)
    processes.worker()
    yield settings
    processes.stop_all()
