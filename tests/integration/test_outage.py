"""A farm whose Redis or whose store goes away and comes back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from farm import SineFarm, make_model, midi
from pydantic import SecretStr
from redis import Redis
from services import Process, free_port, start_redis, start_s3, wait_for_disk, wait_until
from sine_farm import WAITS

from pianofarm import Farm
from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

PASSWORD = "the-redis-password"


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a farm with a Redis of its own."""
    url = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
    make_model(settings.state_dir)
    return settings.model_copy(update={"redis_url": SecretStr(url), "model": "sine", "redis_timeout_s": 2.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "redis"
    folder.mkdir()
    return folder


def redis_on(settings: Settings, folder: Path) -> Process:
    port = int(settings.redis_url.get_secret_value().rsplit(":", 1)[1].split("/")[0])
    return start_redis(folder, port, PASSWORD)


@pytest.fixture
def make_farm(tmp_path: Path) -> Iterator[Callable[[Settings], SineFarm]]:
    farms = []

    def make(settings: Settings) -> SineFarm:
        farms.append(SineFarm(settings, tmp_path))
        return farms[-1]

    yield make
    for farm in farms:
        farm.stop_all()


@pytest.fixture
def processes(own: Settings, make_farm: Callable[[Settings], SineFarm]) -> SineFarm:
    return make_farm(own)


def test_a_redis_that_is_killed_and_started_again_costs_no_job(
    processes: SineFarm, own: Settings, folder: Path
) -> None:
    server = redis_on(own, folder)
    try:
        worker, sweeper = processes.worker(), processes.sweeper()
        hold = own.state_dir / "hold"
        hold.touch()
        with Farm(own) as farm:
            running, queued = farm.submit(midi(WAITS)), farm.submit(midi(60))
            wait_until(lambda: running.status().state is State.RUNNING, "running", process=worker)
            wait_for_disk(Redis.from_url(own.redis_url.get_secret_value()))
            server.kill()
            with pytest.raises(ServiceUnavailable):
                running.status()
            wait_until(lambda: "heartbeat failed" in worker.output(), "the worker notices", process=worker)
            wait_until(lambda: "sweep failed" in sweeper.output(), "the sweeper notices", process=sweeper)
            time.sleep(own.lease_s + 1.0)  # no lease can be renewed, and nobody is to blame
            server = redis_on(own, folder)
            hold.unlink()
            for job in (running, queued):
                wait_until(lambda job=job: job.status().state is State.DONE, "done", 120, worker)
            render = running.status().render
            assert render is not None
            assert (render.attempts, render.kills) == (1, 0)
            third = farm.submit(midi(61))
            wait_until(lambda: third.status().state is State.DONE, "done", 120, worker)
    finally:
        server.kill()


def test_a_store_that_is_away_costs_no_attempt(
    redis_settings: Settings, tmp_path: Path, make_farm: Callable[[Settings], SineFarm]
) -> None:
    port, files = free_port(), tmp_path / "s3"
    files.mkdir()
    keys = {"s3_access_key": SecretStr("the-access-key"), "s3_secret_key": SecretStr("the-secret-key")}
    settings = redis_settings.model_copy(
        update={"s3_endpoint": f"http://127.0.0.1:{port}", "model": "sine", "s3_timeout_s": 2.0, **keys}
    )
    make_model(settings.state_dir)
    server = start_s3(files, port, "the-access-key", "the-secret-key")
    try:
        S3BlobStore.from_settings(settings).ensure_bucket()
        processes = make_farm(settings)
        worker, _ = processes.worker(), processes.sweeper()
        hold = settings.state_dir / "hold"
        hold.touch()
        with Farm(settings) as farm:
            running, queued = farm.submit(midi(WAITS)), farm.submit(midi(60))
            wait_until(lambda: running.status().state is State.RUNNING, "running", process=worker)
            server.kill()
            hold.unlink()

            def deferred() -> int:
                return sum(farm.services.ledger.render(job.key).deferrals for job in (running, queued))

            wait_until(lambda: deferred() > settings.max_attempts, "more outages than attempts", 120, worker)
            server = start_s3(files, port, "the-access-key", "the-secret-key")
            for job in (running, queued):
                wait_until(lambda job=job: job.status().state.final, "done", 120, worker)
                render = farm.services.ledger.render(job.key)
                assert (render.state, render.attempts, render.error) == (State.DONE, 1, "")
    finally:
        server.kill()
