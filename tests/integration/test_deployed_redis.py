"""Redis as it is deployed: deploy/redis.conf, the users that deploy/secrets.sh makes, and the way back from a snapshot."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from deployed import DEPLOY, Deployed

from pianofarm_common.ledger import Ledger
from pianofarm_common.queue import backlog, make_app
from pianofarm_common.renders import PriorityClass


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.delenv("PIANOFARM_REDIS_URL", raising=False)
    server = Deployed(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def client(deployed: Deployed) -> Iterator[redis.Redis]:
    connection = redis.Redis.from_url(deployed.settings.redis_url.get_secret_value(), decode_responses=True)
    yield connection
    connection.close()


def refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (redis.exceptions.NoPermissionError, redis.AuthenticationError):
        return True
    return False


def test_the_ledger_and_the_broker_work_with_the_rights_of_the_deployed_user(deployed: Deployed) -> None:
    ledger, app = Ledger.from_settings(deployed.settings), make_app(deployed.settings)
    assert str(deployed.port) in ledger.ping()
    assert ledger.sweep(backlog(app)) == []
    assert ledger.depth(PriorityClass.BULK).queued_renders == 0
    assert ledger.workers() == []
    app.close()
    ledger.close()


def test_commands_of_operators_and_everything_from_strangers_are_refused(
    deployed: Deployed, client: redis.Redis
) -> None:
    for command in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["SHUTDOWN"], ["ACL", "LIST"]):
        assert refused(lambda command=command: client.execute_command(*command)), command
    stranger = redis.Redis(port=deployed.port)
    assert refused(stranger.ping)
    stranger.close()
    prober = redis.Redis(port=deployed.port, username="probe", password="any")
    assert prober.ping()
    assert refused(lambda: prober.get("x"))
    prober.close()


def test_nothing_is_evicted_and_every_write_is_kept(client: redis.Redis) -> None:
    info = client.info()
    assert info["maxmemory_policy"] == "noeviction"
    assert info["aof_enabled"] == 1


def test_a_second_run_of_the_secrets_changes_none(deployed: Deployed) -> None:
    before = {path.name: path.read_bytes() for path in deployed.secrets.iterdir()}
    subprocess.run([DEPLOY / "secrets.sh", deployed.secrets], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in deployed.secrets.iterdir()} == before


def test_a_snapshot_comes_back_where_everything_else_was_lost(deployed: Deployed, client: redis.Redis) -> None:
    client.hset("before", "the", "fire")
    deployed.stop()  # writes a snapshot, as the hourly one
    snapshot = shutil.copy(deployed.data / "dump.rdb", deployed.data.parent)
    shutil.rmtree(deployed.data)
    deployed.data.mkdir()
    subprocess.run([DEPLOY / "redis-restore.sh", snapshot, deployed.data], check=True, capture_output=True)
    deployed.start()
    assert client.hget("before", "the") == "fire"
    client.set("after", "it")
    deployed.stop()
    deployed.start()
    assert client.get("after") == "it"


def test_a_restore_never_overwrites_data(deployed: Deployed) -> None:
    done = subprocess.run(
        [DEPLOY / "redis-restore.sh", DEPLOY / "redis.conf", deployed.data], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "holds data" in done.stderr
