"""Callbacks: which batches want to be told when a job ends, and whom to tell now. Sends nothing.

Any number of processes may take from here. The script that ends a job notes the call in the same step, so that no end is missed
however many there are and whoever listens; what fails is tried again until `forget`. What nobody takes in `ledger_ttl_s` is dropped
by the sweep: the ledger does not know the job any more.

    callback:<batch>   the address, for as long as the ledger remembers the batch
    calls              sorted set: job -> when to tell (ms); whoever takes one pushes it into the future first
    calltries          hash: job -> calls that failed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import redis

from pianofarm_common.errors import BadOption
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.scripts import PREFIX, Scripts
from pianofarm_common.settings import Settings

#: Jobs noted in one step of Redis.
NOTED = 1000

#: Longest address taken.
URL_CHARACTERS = 2000


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
    due: str  #: when it is given to another unless it is forgotten, in ms as Redis wrote it


class Callbacks:
    """Whom to tell. Methods raise as those of `Ledger`; thread-safe."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())
        self._scripts = Scripts(client, settings, self._where)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Callbacks of the farm at `redis_url`; connects at the first call."""
        return cls(settings, connect(settings))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def ask(self, batch: str, url: str, ended: Sequence[str]) -> None:
        """Have every job of a batch told about; call it after the submission. Args: ended: its jobs that ended already."""
        for first in range(0, max(1, len(ended)), NOTED):
            self._scripts.call("ask", *ended[first : first + NOTED], batch=batch, url=url)

    def url(self, batch: str) -> str | None:
        """The address of a batch; None where nobody asked."""
        with translated(self._where):
            found: Any = self._redis.get(f"{PREFIX}callback:{batch}")
        return found or None

    def take(self, limit: int, lease_s: float) -> list[Call]:
        """Jobs to tell about now; nobody else gets them for `lease_s`."""
        found = self._scripts.call("calls", limit=limit, hold_ms=round(lease_s * 1000), told=[])
        return [Call(job_id, int(failures), due) for job_id, failures, due in found]

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
        """A job was told about, or never will be; stays if it ended once more since it was taken."""
        self._scripts.call("calls", limit=0, hold_ms=0, told=[(call.job_id, call.due)])
