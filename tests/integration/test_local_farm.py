"""The local farm: real servers under a real supervisor, on loopback, gone when it goes."""

import base64
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from farm import HERE, make_model, midi
from services import wait_until
from sine_farm import WAITS

from pianofarm.cli.farm import wait_for_services
from pianofarm.client import Farm
from pianofarm.local.farm import LocalFarm
from pianofarm.local.plan import StateFolder, base_env
from pianofarm.local.supervisor import Program
from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings


def no_workers(_folder: StateFolder) -> tuple[Program, ...]:
    return ()


def sine_worker(folder: StateFolder) -> tuple[Program, ...]:
    argv = [
        "-m",
        "celery",
        "--app=sine_farm",
        "--quiet",
        "worker",
        "--pool=prefork",
        "--concurrency=1",
        "--hostname=cpu0@%h",
    ]
    argv += ["--queues=interactive,standard,bulk", "--without-gossip", "--without-mingle"]
    env = {**base_env(folder), "PYTHONPATH": str(HERE), "REMAP_SIGTERM": "SIGQUIT", "PIANOFARM_MODEL": "sine"}
    return (Program(name="cpu0", argv=(sys.executable, *argv), env=env, log=str(folder.logs / "cpu0.log")),)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalFarm]:
    for name in list(os.environ):
        if name.startswith("PIANOFARM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    farm = LocalFarm(tmp_path / "state")
    yield farm
    farm.down()


def up(farm: LocalFarm, **options) -> Settings:
    assert farm.up(Settings.load(), options.pop("workers", no_workers), flower=options.pop("flower", False), **options)
    wait_for_services(farm)
    return Settings.load()


def pids_of(farm: LocalFarm) -> dict[str, int]:
    wait_until(lambda: bool(farm.programs()) and all(program.pid for program in farm.programs()), "programs")
    return {program.name: program.pid for program in farm.programs() if program.pid}


def family(pids: list[int]) -> list[psutil.Process]:
    parents = [psutil.Process(pid) for pid in pids]
    return [*parents, *(child for parent in parents for child in parent.children(recursive=True))]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_services_listen_on_loopback_only_and_ask_for_credentials(local):
    settings = up(local)
    pids = pids_of(local)
    addresses = {
        connection.laddr.ip
        for process in family(list(pids.values()))
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
    with redis.Redis(port=local.facts.redis_port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with Farm(settings) as farm:
        farm.services.store.put("secret", b"text")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{settings.s3_endpoint}/{settings.s3_bucket}/secret", timeout=10)  # noqa: S310
    refused.value.close()
    assert refused.value.code == 403


def test_credentials_are_for_the_owners_eyes_and_on_no_command_line(local):
    up(local)
    pids = pids_of(local)
    for path in (local.folder.farm_env, local.folder.facts, local.folder.status, local.folder.redis / "redis.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(local.folder.root.stat().st_mode) == 0o700
    facts = local.facts
    secrets = (facts.redis_password, facts.s3_secret_key, facts.flower_password)
    for process in family([*pids.values(), json.loads(local.folder.status.read_text())["pid"]]):
        assert not any(secret in word for word in process.cmdline() for secret in secrets)


def test_a_second_up_changes_nothing_and_down_stops_everything_once(local):
    up(local)
    processes = family(list(pids_of(local).values()))
    assert local.is_up
    assert local.up(Settings.load(), no_workers) is False
    assert local.down() is True
    assert gone(processes)
    assert not local.is_up
    assert local.down() is False


def test_a_farm_is_known_as_soon_as_it_is_up_and_a_killed_supervisor_is_not_taken_for_it(local):
    local.folder.make()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        local.folder.status.write_text(json.dumps({"pid": bystander.pid, "programs": {}}))
        assert local.up(Settings.load(), no_workers, flower=False)
        assert [program.name for program in local.programs()] == ["redis", "storage"]
        assert local.down() is True
        assert bystander.poll() is None
        bystander.kill()


def test_what_was_stored_is_there_after_a_restart_on_the_same_ports_with_the_same_credentials(local):
    settings = up(local)
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.set("kept", "yes")
    with Farm(settings) as farm:
        farm.services.store.put("kept", b"yes")
    local.down()
    again = up(local)
    assert again == settings
    with redis.Redis.from_url(again.redis_url.get_secret_value()) as client:
        assert client.get("kept") == b"yes"
    with Farm(again) as farm:
        assert farm.services.store.get("kept") == b"yes"


def test_a_program_that_dies_is_started_again(local):
    up(local)
    pids = pids_of(local)
    os.kill(pids["redis"], signal.SIGKILL)
    wait_until(lambda: next(p.restarts for p in local.programs() if p.name == "redis") == 1, "the restart of Redis")
    wait_for_services(local)
    assert pids_of(local)["redis"] != pids["redis"]
    assert pids_of(local)["storage"] == pids["storage"]


def test_a_killed_supervisor_leaves_no_process_even_in_the_middle_of_a_render(local):
    make_model(local.folder.root)
    (local.folder.root / "hold").touch()
    settings = up(local, workers=sine_worker)
    with Farm(settings) as farm:
        job = farm.submit(midi(60, WAITS), model="sine")
        wait_until(lambda: job.status().state is State.RUNNING, "the render to start")
        supervisor = json.loads(local.folder.status.read_text())["pid"]
        processes = family([supervisor])
        assert len(processes) >= 5  # the supervisor, Redis, storage, a worker and its child
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: gone(processes), "the end of every process")
        assert not local.is_up
        (local.folder.root / "hold").unlink()
        up(local, workers=lambda folder: (*sine_worker(folder), sweeper(folder)))
        assert job.wait(timeout_s=120).state is State.DONE


def sweeper(folder: StateFolder) -> Program:
    env = {**base_env(folder), "PIANOFARM_LEASE_S": "2"}
    return Program("sweeper", (sys.executable, "-m", "pianofarm_worker.sweeper"), env, str(folder.logs / "sweeper.log"))


def test_a_deferred_program_starts_when_it_is_told_to(local):
    def late(folder: StateFolder) -> tuple[Program, ...]:
        sleeper = (sys.executable, "-c", "import time; time.sleep(600)")
        return (Program("late", sleeper, base_env(folder), str(folder.logs / "late.log"), deferred=True),)

    up(local, workers=late)
    assert {program.name: program.pid is None for program in local.programs()} == {
        "redis": False,
        "storage": False,
        "late": True,
    }
    local.start_deferred()
    assert "late" in pids_of(local)


def test_an_attached_farm_ends_with_whoever_started_it(local, tmp_path):
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom pianofarm.local.farm import LocalFarm\n"
        "from pianofarm.cli.farm import wait_for_services\nfrom pianofarm_common.settings import Settings\n"
        f"farm = LocalFarm(Path({str(local.folder.root)!r}))\n"
        "farm.up(Settings.load(), lambda folder: (), flower=False, attached=True)\nwait_for_services(farm)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    wait_until(lambda: not local.is_up, "the end of the farm")
    port = local.facts.redis_port
    wait_until(lambda: not _listens(port), "the end of Redis")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_services_of_the_user_are_used_and_none_is_started_in_their_place(
    local, redis_url, s3_settings, s3_store, monkeypatch
):
    monkeypatch.setenv("PIANOFARM_REDIS_URL", redis_url)
    environment = {"endpoint": s3_settings.s3_endpoint, "bucket": s3_settings.s3_bucket}
    environment |= {"access_key": s3_settings.s3_access_key.get_secret_value()}
    environment |= {"secret_key": s3_settings.s3_secret_key.get_secret_value()}
    for name, value in environment.items():
        monkeypatch.setenv(f"PIANOFARM_S3_{name.upper()}", value)
    settings = up(local, workers=sweeper_only)
    assert settings.redis_url.get_secret_value() == redis_url
    assert list(pids_of(local)) == ["sweeper"]
    assert "PIANOFARM_" not in local.folder.farm_env.read_text().split("\n", 1)[1]


def sweeper_only(folder: StateFolder) -> tuple[Program, ...]:
    return (sweeper(folder),)


@pytest.mark.parametrize(
    ("variable", "address"), [("REDIS_URL", "redis://127.0.0.1:1/0"), ("S3_ENDPOINT", "http://127.0.0.1:1")]
)
def test_a_service_of_the_user_that_does_not_answer_is_named_by_its_address(local, monkeypatch, variable, address):
    monkeypatch.setenv(f"PIANOFARM_{variable}", address)
    monkeypatch.setenv("PIANOFARM_S3_ACCESS_KEY", "a")
    monkeypatch.setenv("PIANOFARM_S3_SECRET_KEY", "b")
    assert local.up(Settings.load(), no_workers, flower=False)
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:1\b.* does not answer"):
        wait_for_services(local)


def test_a_program_that_cannot_start_is_named_with_its_last_words(local):
    def broken(folder: StateFolder) -> tuple[Program, ...]:
        argv = (sys.executable, "-c", "import sys; sys.exit('no such device')")
        return (Program("cpu0", argv, base_env(folder), str(folder.logs / "cpu0.log")),)

    up(local, workers=broken)
    with pytest.raises(ServiceUnavailable, match=r"worker cpu0 ended \d+ times: no such device"):
        local.wait_for("worker cpu0", lambda: False, program="cpu0", timeout_s=60)


def test_flower_is_there_for_who_knows_the_password(local):
    up(local, flower=True)
    local.wait_for("Flower", local.flower_answers, program="flower", timeout_s=120)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{local.facts.flower_url}/api/workers", timeout=10)  # noqa: S310
    refused.value.close()
    assert refused.value.code == 401

    known = base64.b64encode(f"{local.facts.flower_user}:{local.facts.flower_password}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310
        f"{local.facts.flower_url}/api/worker/shutdown/any", method="POST", headers={"Authorization": f"Basic {known}"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310
    refused.value.close()
    assert refused.value.code == 403, "Flower is a view"
