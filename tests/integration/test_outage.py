"""A farm whose Redis goes away and comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import SineFarm, make_model, midi
from pydantic import SecretStr
from redis import Redis
from services import Process, free_port, start_redis, wait_for_disk, wait_until
from sine_farm import WAITS

from pianofarm import Farm
from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings

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
def processes(own: Settings, tmp_path: Path) -> Iterator[SineFarm]:
    farm = SineFarm(own, tmp_path)
    yield farm
    farm.stop_all()


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
            server = redis_on(own, folder)
            hold.unlink()
            for job in (running, queued):
                wait_until(lambda job=job: job.status().state is State.DONE, "done", 120, worker)
            third = farm.submit(midi(61))
            wait_until(lambda: third.status().state is State.DONE, "done", 120, worker)
    finally:
        server.kill()
