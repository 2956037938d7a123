"""Budgets: how much worker time a batch or an owner may use, how much it used, and the end of its jobs when that is all of it.

Every attempt is charged, failed ones too, in equal parts to the jobs that wait for its render; a cache hit is free. The limit is
looked at before a render starts, so a budget is exceeded by at most one render a worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Self

import redis

from pianofarm_common.errors import BadOption
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.door import Ledger
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.renders import RenderKey
from pianofarm_common.settings import Settings

#: The first budget of a farm counts for its workers after this long at most.
NONE_FOR_S = 0.5


@dataclass(frozen=True)
class Payer:
    """Who has a budget."""

    kind: Literal["batch", "owner"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def record(self) -> str:
        """Its key in Redis."""
        return f"{PREFIX}budget:{self.kind}:{self.name}"


@dataclass(frozen=True)
class Budget:
    """Worker time, in seconds."""

    limit_s: float
    spent_s: float

    @property
    def is_used_up(self) -> bool:
        """True if nothing more may start."""
        return self.spent_s >= self.limit_s


class Budgets:
    """All budgets of a farm; thread-safe. Methods raise as those of `Ledger`."""

    def __init__(self, ledger: Ledger, settings: Settings, client: redis.Redis) -> None:
        self._ledger = ledger
        self._redis = client
        self._where = address(settings.redis_url.get_secret_value())
        self._ttl_s = settings.ledger_ttl_s
        self._none_until = 0.0

    @classmethod
    def from_settings(cls, ledger: Ledger, settings: Settings) -> Self:
        """Budgets of the farm at `redis_url`; connects at the first call."""
        return cls(ledger, settings, connect(settings))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def set(self, payer: Payer, limit_s: float) -> None:
        """Give a budget, or change one; what was spent stays spent. A batch's is forgotten `ledger_ttl_s` after its last use.

        Raises:
            BadOption: the limit is no number of 0 or more, or the payer has no name.
        """
        if not 0 <= limit_s < inf:
            raise BadOption(f"a budget of {limit_s:g} s: give 0 or more; for no limit, remove the budget")
        if not payer.name:
            raise BadOption(f"a budget needs the name of its {payer.kind}")
        self._none_until = 0.0
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hset(payer.record, "limit_ms", round(limit_s * 1000))
            if payer.kind == "batch":
                pipeline.expire(payer.record, self._ttl_s)
            # Workers ask for this one key before anything else: farms without budgets pay one short question a render.
            pipeline.set(f"{PREFIX}budgets", "1")
            pipeline.execute()

    def remove(self, payer: Payer) -> bool:
        """Take a budget and its account away; True if there was one."""
        with translated(self._where):
            return bool(self._redis.delete(payer.record))

    def get(self, payer: Payer) -> Budget | None:
        """A budget; None where there is none."""
        return self._read([payer])[payer]

    def charge(self, key: RenderKey, worker_s: float) -> None:
        """Charge an attempt to those who wait for its render. Call it before the commit: afterwards nobody waits any more."""
        if not self._any():
            return
        payers = self._payers(key)
        if not payers:
            return
        share_ms = round(worker_s * 1000 / len(payers))
        known = self._read([payer for pair in payers.values() for payer in pair])
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            for pair in payers.values():
                for payer in pair:
                    if known[payer] is not None:
                        pipeline.hincrby(payer.record, "spent_ms", share_ms)
                        if payer.kind == "batch":
                            pipeline.expire(payer.record, self._ttl_s)
            pipeline.execute()

    def enforce(self, keys: Sequence[RenderKey]) -> int:
        """Cancel the jobs that wait for renders on a budget that is used up; returns how many. Call it before the claim."""
        return sum(map(self._enforce, keys)) if self._any() else 0

    def _enforce(self, key: RenderKey) -> int:
        payers = self._payers(key)
        known = self._read([payer for pair in payers.values() for payer in pair])
        n_cancelled = 0
        for job_id, pair in payers.items():
            for payer in pair:
                budget = known[payer]
                if budget is not None and budget.is_used_up:
                    self._ledger.cancel_unpaid(
                        job_id,
                        f"the budget of {payer} is used up: {budget.spent_s:.1f} of {budget.limit_s:.1f} s of worker time; "
                        "raise it ('pianofarm budget set') and submit again: what is done costs nothing",
                    )
                    n_cancelled += 1
                    break
        return n_cancelled

    def _any(self) -> bool:
        """Whether there are budgets at all. A no is believed for a moment: it is asked for twice a render."""
        if time.monotonic() < self._none_until:
            return False
        with translated(self._where):
            found = bool(self._redis.exists(f"{PREFIX}budgets"))
        self._none_until = 0.0 if found else time.monotonic() + NONE_FOR_S
        return found

    def _payers(self, key: RenderKey) -> dict[str, tuple[Payer, ...]]:
        """For each job that waits for a render, who may have a budget for it."""
        with translated(self._where):
            waiting: Any = self._redis.hgetall(f"{PREFIX}waiting:{key}")
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in waiting:
                pipeline.hget(f"{PREFIX}job:{job_id}", "owner")
            owners = pipeline.execute()
        return {
            job_id: (Payer("batch", batch), *((Payer("owner", owner),) if owner else ()))
            for (job_id, batch), owner in zip(waiting.items(), owners, strict=True)
        }

    def _read(self, payers: list[Payer]) -> dict[Payer, Budget | None]:
        distinct = list(dict.fromkeys(payers))
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            for payer in distinct:
                pipeline.hmget(payer.record, ["limit_ms", "spent_ms"])
            records = pipeline.execute()
        return {
            payer: Budget(int(limit_ms) / 1000.0, int(spent_ms or 0) / 1000.0) if limit_ms is not None else None
            for payer, (limit_ms, spent_ms) in zip(distinct, records, strict=True)
        }
