"""A census of the ledger: how much of everything there is, in three round trips, for monitoring. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import redis

from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.ledger.switches import Switch
from pianofarm_common.ledger.values import Depth
from pianofarm_common.renders import PriorityClass, RenderKey, State
from pianofarm_common.settings import Settings

#: Of the renders published first the one submitted first gives the age of a queue: re-publication changes the order a little.
_HEAD = 5

#: Owners whose oldest waiting render is looked at; those whose turn is next.
_OWNERS = 50


@dataclass(frozen=True)
class ClassCensus:
    """One class of priority."""

    depth: Depth
    broker_messages: int  #: waiting in the broker's list; a message may hold several renders
    oldest_s: float  #: time since the submission of the render that waits longest; 0.0 where none waits
    is_paused: bool = False  #: the whole class, by an operator: what waits is no work for anybody


@dataclass(frozen=True)
class Census:
    """The whole farm at one moment."""

    at: float  #: seconds since the epoch by the clock of Redis
    classes: dict[PriorityClass, ClassCensus]
    backoff_renders: int  #: waiting for another try; among the queued as well
    quarantined_renders: int
    parked_messages: int
    redis_used_bytes: int
    redis_max_bytes: int  #: 0 where Redis has no limit
    redis_evicted_keys: int  #: anything but 0 means lost jobs: the policy must be noeviction
    paused_renders: int = 0  #: that met a pause; among the queued as well
    switches: int = 0  #: pauses and drains
    barred_hosts: int = 0  #: out of rotation


class CensusTaker:
    """Counts on a connection of its own; thread-safe."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A census taker on `redis_url`; connects at the first call."""
        return cls(settings, connect(settings))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def take(self) -> Census:
        """Count.

        Raises:
            ServiceUnavailable: Redis does not answer.
            BadSettings: Redis refuses our credentials.
        """
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hgetall(f"{PREFIX}load")
            for name in PriorityClass:
                pipeline.llen(str(name))
                pipeline.zrange(f"{PREFIX}queued:{name}", 0, _HEAD - 1)
                pipeline.zrange(f"{PREFIX}turns:{name}", 0, _OWNERS - 1)
            pipeline.zcard(f"{PREFIX}backoff")
            pipeline.zcard(f"{PREFIX}quarantine")
            pipeline.llen(f"{PREFIX}parked")
            pipeline.zcard(f"{PREFIX}paused")
            pipeline.hlen(f"{PREFIX}switches")
            pipeline.hmget(f"{PREFIX}switches", [Switch("pause", "queue", name).field for name in PriorityClass])
            pipeline.hlen(f"{PREFIX}barred")
            pipeline.info("memory")
            pipeline.info("stats")
            pipeline.time()
            load, *lists, backoff, quarantined, parked, paused, switches, pauses, barred, memory, stats, clock = (
                pipeline.execute()
            )
            lengths, published, owners = lists[::3], lists[1::3], lists[2::3]
            now_ms = clock[0] * 1000 + clock[1] // 1000
            heads = [[*keys, *lane] for keys, lane in zip(published, self._lane_heads(owners), strict=True)]
            oldest = self._oldest_s(heads, now_ms)
        classes = {
            name: ClassCensus(_depth(load, name), int(length), age, pause is not None)
            for name, length, age, pause in zip(PriorityClass, lengths, oldest, pauses, strict=True)
        }
        return Census(
            now_ms / 1000.0,
            classes,
            int(backoff),
            int(quarantined),
            int(parked),
            int(memory.get("used_memory", 0)),
            int(memory.get("maxmemory", 0)),
            int(stats.get("evicted_keys", 0)),
            int(paused),
            int(switches),
            int(barred),
        )

    def newest_event(self) -> str:
        """Id of the newest event of the farm, "0" where there is none: where a reader starts that wants the future only.

        Raises as `take` does.
        """
        with translated(self._where):
            newest: Any = self._redis.xrevrange(f"{PREFIX}events", count=1)
        return str(newest[0][0]) if newest else "0"

    def recently_done(self, n_events: int) -> list[RenderKey]:
        """Renders done within the last `n_events` events of the farm, oldest first. Raises as `take` does."""
        with translated(self._where):
            events: Any = self._redis.xrevrange(f"{PREFIX}events", count=n_events)
        done = (RenderKey(fields["r"]) for _, fields in reversed(events) if fields["k"] == State.DONE)
        return list(dict.fromkeys(done))

    def _lane_heads(self, owners: list[list[str]]) -> list[list[str]]:
        """For each class, the first render of each of these owners that is not published yet."""
        pipeline = self._redis.pipeline(transaction=False)
        for name, some in zip(PriorityClass, owners, strict=True):
            for owner in some:
                pipeline.zrange(f"{PREFIX}lane:{name}:{owner}", 0, 0)
        answers = iter(pipeline.execute())
        return [[key for _ in some for key in next(answers)] for some in owners]

    def _oldest_s(self, heads: list[list[str]], now_ms: int) -> list[float]:
        pipeline = self._redis.pipeline(transaction=False)
        for head in heads:
            for key in head:
                pipeline.hget(f"{PREFIX}render:{key}", "sub")
        answers = iter(pipeline.execute())
        # A render may vanish between the two round trips.
        submitted = [[int(found) for _ in head if (found := next(answers))] for head in heads]
        return [max(0.0, (now_ms - min(times)) / 1000.0) if times else 0.0 for times in submitted]


def _depth(load: dict[str, Any], name: PriorityClass) -> Depth:
    def amount(what: str, where: str) -> int:
        return int(load.get(f"{what}:{name}:{where}") or 0)

    return Depth(amount("n", "q"), amount("ms", "q") / 1000.0, amount("n", "l"), amount("ms", "l") / 1000.0)
