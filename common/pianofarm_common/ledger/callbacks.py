"""Callbacks: which batches want to be told when a job ends, and whom to tell now. Sends nothing.

Any number of processes may take from here. A job that ended is told at least once; what fails is tried again until `forget`.

    callback:<batch>   the address, for as long as the ledger remembers
    calls              sorted set: job -> when to tell (ms); whoever takes one pushes it into the future first
    calltries          hash: job -> calls that failed
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import redis
from redis.exceptions import ResponseError

from pianofarm_common.errors import BadOption
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.scripts import PREFIX, Scripts
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings

#: The group of readers of the farm's events: each event is given to one of them.
GROUP = "callbacks"

#: Events taken in one step.
EVENTS = 500

#: An event whose taker died is given to another after this long.
STALE_MS = 60_000

#: Longest address taken.
URL_CHARACTERS = 2000

_FINAL = {str(state) for state in State if state.final}


def check_url(url: str) -> SplitResult:
    """The parts of an address that a webhook may have; asks nobody.

    Raises:
        BadOption: not http or https, no host, or a password in it.
    """
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise BadOption("the webhook is no URL: it must look like https://HOST/PATH") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good:
        raise BadOption("the webhook must look like https://HOST/PATH or http://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise BadOption("a webhook holds no user and no password: its requests are signed instead")
    if len(url) > URL_CHARACTERS or not url.isascii() or any(c <= " " for c in url):
        raise BadOption(f"a webhook has at most {URL_CHARACTERS} characters, ASCII without spaces")
    return parts


@dataclass(frozen=True)
class Call:
    """A job to tell about."""

    job_id: str
    failures: int  #: calls that failed so far


class Callbacks:
    """Whom to tell. Methods raise as those of `Ledger`; thread-safe."""

    def __init__(self, settings: Settings, client: redis.Redis, name: str) -> None:
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())
        self._scripts = Scripts(client, settings, self._where)
        self._ttl_s = settings.ledger_ttl_s
        self._name = name

    @classmethod
    def from_settings(cls, settings: Settings, name: str = "") -> Self:
        """Callbacks of the farm at `redis_url`; connects at the first call. Args: name: of the process that takes."""
        return cls(settings, connect(settings), name)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def ask(self, batch: str, url: str, ended: Sequence[str]) -> None:
        """Have every job of a batch told about; call it after the submission. Args: ended: its jobs that ended already."""
        with translated(self._where):
            self._redis.set(f"{PREFIX}callback:{batch}", url, ex=self._ttl_s)
            if ended:
                self._redis.zadd(f"{PREFIX}calls", dict.fromkeys(ended, 0), nx=True)

    def url(self, batch: str) -> str | None:
        """The address of a batch; None where nobody asked."""
        with translated(self._where):
            found: Any = self._redis.get(f"{PREFIX}callback:{batch}")
        return found or None

    def collect(self) -> int:
        """Take the events since the last call, of whoever called, and note the jobs that ended; returns how many are to be told."""
        with translated(self._where):
            # From the first event that is left: a job may have ended after its batch asked and before any sweeper came.
            with suppress(ResponseError):  # it is there already
                self._redis.xgroup_create(f"{PREFIX}events", GROUP, id="0", mkstream=True)
            stale: Any = self._redis.xautoclaim(f"{PREFIX}events", GROUP, self._name, STALE_MS, count=EVENTS)
            fresh: Any = self._redis.xreadgroup(GROUP, self._name, {f"{PREFIX}events": ">"}, count=EVENTS)
            events = [*stale[1], *(entry for _, entries in fresh or [] for entry in entries)]
            if not events:
                return 0
            ends = [(fields["j"], fields["b"]) for _, fields in events if fields and fields.get("k") in _FINAL]
            batches = list(dict.fromkeys(batch for _, batch in ends))
            wanted: Any = self._redis.mget([f"{PREFIX}callback:{batch}" for batch in batches]) if batches else []
            asked = {batch for batch, url in zip(batches, wanted, strict=True) if url}
            jobs = dict.fromkeys((job for job, batch in ends if batch in asked), 0)
            pipeline = self._redis.pipeline(transaction=True)
            if jobs:
                pipeline.zadd(f"{PREFIX}calls", jobs, nx=True)
            pipeline.xack(f"{PREFIX}events", GROUP, *(event_id for event_id, _ in events))
            pipeline.execute()
        return len(jobs)

    def take(self, limit: int, lease_s: float) -> list[Call]:
        """Jobs to tell about now; nobody else gets them for `lease_s`."""
        found = self._scripts.call("calls", limit=limit, hold_ms=round(lease_s * 1000))
        return [Call(job_id, int(failures)) for job_id, failures in found]

    def later(self, call: Call, wait_s: float) -> None:
        """A call failed: again after this long."""
        with translated(self._where):
            seconds, micros = self._redis.time()
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hset(f"{PREFIX}calltries", call.job_id, call.failures + 1)
            pipeline.zadd(
                f"{PREFIX}calls", {call.job_id: seconds * 1000 + micros // 1000 + round(wait_s * 1000)}, xx=True
            )
            pipeline.execute()

    def forget(self, call: Call) -> None:
        """A job was told about, or never will be."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.zrem(f"{PREFIX}calls", call.job_id)
            pipeline.hdel(f"{PREFIX}calltries", call.job_id)
            pipeline.execute()
