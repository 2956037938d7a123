"""Hosts: which are out of rotation and why, what died on each, and whether that was the job or the machine."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import redis

from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.reading import Reading
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.renders import RenderKey
from pianofarm_common.settings import Settings


@dataclass(frozen=True)
class Host:
    """A host that has workers, or on which something died lately, or that is out of rotation."""

    name: str
    workers: int  #: alive
    deaths: tuple[RenderKey, ...]  #: renders that died here and nowhere else, the oldest first
    barred_since: float  #: seconds since the epoch; 0.0 where it gets work
    why: str  #: why it gets none

    @property
    def verdict(self) -> str:
        """The job or the machine, in words."""
        if not self.deaths:
            return "nothing died here that did not die elsewhere too"
        if len(self.deaths) == 1:
            return (
                "one render died here and nowhere else: the job or the machine, one more host that tries it will tell"
            )
        return f"{len(self.deaths)} different renders died here and nowhere else: probably the machine"


class Hosts:
    """The hosts of a farm; thread-safe.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials.
    """

    def __init__(self, reading: Reading, settings: Settings, client: redis.Redis) -> None:
        self._reading = reading
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())

    @classmethod
    def from_settings(cls, reading: Reading, settings: Settings) -> Self:
        """The hosts of the farm at `redis_url`; connects at the first call."""
        return cls(reading, settings, connect(settings))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def all(self) -> list[Host]:
        """Every host that there is something to say about, by name. Walks all keys of Redis."""
        n_workers = Counter(worker.host for worker in self._reading.workers())
        prefix = f"{PREFIX}deaths:"
        with translated(self._where):
            barred: Any = self._redis.hgetall(f"{PREFIX}barred")
            found: list[str] = [key.removeprefix(prefix) for key in self._redis.scan_iter(f"{prefix}*", count=1000)]
            names = sorted({*n_workers, *barred, *found})
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.zrange(prefix + name, 0, -1)
            deaths = pipeline.execute()
        return [
            Host(name, n_workers[name], tuple(map(RenderKey, died)), *_reason(barred.get(name)))
            for name, died in zip(names, deaths, strict=True)
        ]

    def bar(self, name: str, why: str) -> None:
        """Take a host out of rotation: its workers end what they have and take no more, until it is restored."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hset(f"{PREFIX}barred", name, json.dumps({"at": time.time(), "why": why[:200]}))
            pipeline.expire(f"{PREFIX}barred", 30 * 86_400)
            pipeline.execute()

    def restore(self, name: str) -> bool:
        """Give a host work again, and forget what died on it; True if it was out of rotation."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hdel(f"{PREFIX}barred", name)
            pipeline.delete(f"{PREFIX}deaths:{name}")
            return bool(pipeline.execute()[0])


def _reason(record: str | None) -> tuple[float, str]:
    if record is None:
        return 0.0, ""
    found = json.loads(record)
    return float(found["at"]), str(found["why"])
