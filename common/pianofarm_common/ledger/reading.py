"""Reading the ledger: where jobs, renders, batches and workers stand, and what happens. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, Self

import redis

from pianofarm_common.errors import NotFound
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.records import batch_status, event, job_status, render_status, spec_of
from pianofarm_common.ledger.scripts import PREFIX, Scripts
from pianofarm_common.ledger.values import BatchStatus, Depth, Event, JobStatus, RenderStatus, WorkerInfo, own_prefix
from pianofarm_common.renders import PriorityClass, RenderKey, RenderSpec, State
from pianofarm_common.settings import Settings

#: Records read in one round trip.
READ_CHUNK = 1000

#: Longest wait for events.
MAX_BLOCK_MS = 30_000


class Reading:
    """The half of the ledger that changes nothing.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials.
    """

    def __init__(self, settings: Settings, client: redis.Redis, blocking: redis.Redis) -> None:
        self._settings = settings
        self._redis = client
        self._blocking = blocking
        self._where = address(settings.redis_url.get_secret_value())
        self._scripts = Scripts(client, settings, self._where)
        self._own = own_prefix(settings.owner)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A ledger on `redis_url`; connects at the first call. Share one per process (thread-safe)."""
        return cls(settings, connect(settings), connect(settings, extra_wait_s=MAX_BLOCK_MS / 1000.0))

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()
        self._blocking.close()

    def ping(self) -> str:
        """Ask Redis for a sign of life; returns "HOST:PORT, server version"."""
        with translated(self._where):
            info: Any = self._redis.info("server")
            self._redis.ping()
        return f"{self._where}, {info.get('valkey_version') or info.get('redis_version', 'version unknown')}"

    def check_own(self, what: str, ids: Iterable[str]) -> None:
        """Refuse ids that are not of the owner whom these settings bind a client to.

        Raises:
            NotFound: one of them is not.
        """
        for each in ids:
            if not each.startswith(self._own):
                raise NotFound(
                    f"no {what} {each!r} of owner {self._settings.owner}: the setting PIANOFARM_OWNER shows no other owner's"
                )

    def job(self, job_id: str) -> JobStatus:
        """Where a job stands.

        Raises:
            NotFound: no such job.
        """
        return self.jobs([job_id])[0]

    def jobs(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Where several jobs stand, in one round trip per thousand.

        Raises:
            NotFound: one of them does not exist.
        """
        self.check_own("job", job_ids)
        found: list[JobStatus] = []
        for start in range(0, len(job_ids), READ_CHUNK):
            chunk = job_ids[start : start + READ_CHUNK]
            with translated(self._where):
                pipeline = self._redis.pipeline(transaction=False)
                for job_id in chunk:
                    pipeline.hgetall(f"{PREFIX}job:{job_id}")
                records = pipeline.execute()
            keys = list(dict.fromkeys(RenderKey(record["key"]) for record in records if record))
            renders = self._renders(keys)
            found += [
                job_status(job_id, record, renders.get(record.get("key", "")))
                for job_id, record in zip(chunk, records, strict=True)
            ]
        return found

    def _renders(self, keys: Sequence[RenderKey]) -> dict[str, RenderStatus]:
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(f"{PREFIX}render:{key}")
                pipeline.hlen(f"{PREFIX}waiting:{key}")
            answers = pipeline.execute()
        pairs = zip(keys, answers[::2], answers[1::2], strict=True)
        return {key: render_status(key, record, n_waiting) for key, record, n_waiting in pairs if record}

    def renders(self, keys: Sequence[RenderKey]) -> dict[RenderKey, RenderStatus]:
        """Where several renders stand, in one round trip; those that nobody knows are left out."""
        return {RenderKey(key): status for key, status in self._renders(keys).items()}

    def render(self, key: RenderKey) -> RenderStatus:
        """Where a render stands.

        Raises:
            NotFound: no such render.
        """
        found = self._renders([key])
        return found[key] if found else render_status(key, {}, 0)

    def queued_specs(self, keys: Sequence[RenderKey]) -> dict[RenderKey, tuple[RenderSpec, bool]]:
        """Of renders that are queued what they are, and whether they are to be made alone; in one round trip."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hmget(f"{PREFIX}render:{key}", ["st", "spec", "alone"])
            records = pipeline.execute()
        return {
            key: (spec_of(spec), alone == "1")
            for key, (state, spec, alone) in zip(keys, records, strict=True)
            if state == State.QUEUED
        }

    def batch(self, batch: str) -> BatchStatus:
        """Counts of a batch.

        Raises:
            NotFound: no such batch.
        """
        self.check_own("batch", [batch])
        with translated(self._where):
            record: Any = self._redis.hgetall(f"{PREFIX}batch:{batch}")
        return batch_status(batch, record)

    def batch_jobs(self, batch: str) -> Iterator[str]:
        """The job ids of a batch, in the order of submission; nothing for an unknown batch. Raises NotFound as `batch`."""
        self.check_own("batch", [batch])
        start = 0
        while True:
            with translated(self._where):
                chunk: Any = self._redis.lrange(f"{PREFIX}batchjobs:{batch}", start, start + READ_CHUNK - 1)
            yield from chunk
            start += READ_CHUNK
            if len(chunk) < READ_CHUNK:
                return

    def events(self, batch: str | None, last_id: str = "0", block_ms: int = 0, count: int = 1000) -> list[Event]:
        """Events after `last_id`, oldest first; waits up to `block_ms` for the first one (0: does not wait).

        Args:
            batch: of this batch; None: of the whole farm.
            last_id: "0" for the oldest that is kept; "$" for those after this call.
            block_ms: longest wait, at most 30,000.
            count: at most this many.

        Raises:
            NotFound: the batch is another owner's, or it is none and the settings bind the client to an owner.
        """
        self.check_own("stream of events", [batch or ""])
        stream = f"{PREFIX}events:{batch}" if batch is not None else f"{PREFIX}events"
        with translated(self._where):
            # In redis-py None does not wait, and 0 waits for ever.
            answer: Any = self._blocking.xread(
                {stream: last_id}, count=count, block=min(block_ms, MAX_BLOCK_MS) or None
            )
        if not answer:
            return []
        entries = answer[stream] if isinstance(answer, dict) else answer[0][1]
        return [event(entry[0], entry[1]) for entry in entries]

    def depth(self, priority: PriorityClass) -> Depth:
        """How much work a class holds: what an autoscaler needs."""
        names = [f"{what}:{priority}:{where}" for where in "ql" for what in ("n", "ms")]
        with translated(self._where):
            values: Any = self._redis.hmget(f"{PREFIX}load", names)
        queued, queued_ms, running, running_ms = (int(value or 0) for value in values)
        return Depth(queued, queued_ms / 1000.0, running, running_ms / 1000.0)

    def higher_waits(self, priority: PriorityClass) -> bool:
        """True if a render of a more urgent class is queued."""
        higher = list(PriorityClass)[: list(PriorityClass).index(priority)]
        if not higher:
            return False
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            for name in higher:
                pipeline.zcard(f"{PREFIX}queued:{name}")
            return any(pipeline.execute())

    def quarantined(self) -> list[RenderStatus]:
        """Renders that killed their workers, newest first, at most 1,000."""
        with translated(self._where):
            keys: Any = self._redis.zrange(f"{PREFIX}quarantine", 0, 999, desc=True)
        return list(self._renders(keys).values())

    def done_renders(self) -> Iterator[RenderStatus]:
        """Every render that is remembered as done, in no order; walks all keys of Redis, a thousand at a time.

        One that is finished or forgotten meanwhile may be there or not, or be there twice.
        """
        cursor, prefix = 0, f"{PREFIX}render:"
        while True:
            with translated(self._where):
                answer: Any = self._redis.scan(cursor, match=f"{prefix}*", count=READ_CHUNK)
            cursor, names = answer
            found = self._renders([RenderKey(name.removeprefix(prefix)) for name in names])
            yield from (render for render in found.values() if render.state is State.DONE)
            if not cursor:
                return

    def waiting_jobs(self, kind: Literal["owner", "queue"], name: str) -> Iterator[str]:
        """Ids of the unfinished jobs of an owner or of a class, in no order; walks all keys of Redis.

        Jobs that are submitted meanwhile may be there or not, or be there twice.
        """
        cursor, prefix = 0, f"{PREFIX}job:"
        while True:
            with translated(self._where):
                answer: Any = self._redis.scan(cursor, match=f"{prefix}*", count=READ_CHUNK)
                cursor, keys = answer
                pipeline = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.hmget(key, ["st", "owner" if kind == "owner" else "cls"])
                records = pipeline.execute()
            for key, (state, value) in zip(keys, records, strict=True):
                if state == "" and value == name:
                    yield key.removeprefix(prefix)
            if not cursor:
                return

    def performances(self) -> set[str]:
        """Digests of the performances of all renders that are remembered, whatever their state; walks all keys of Redis."""
        found: set[str] = set()
        cursor, prefix = 0, f"{PREFIX}render:"
        while True:
            with translated(self._where):
                answer: Any = self._redis.scan(cursor, match=f"{prefix}*", count=READ_CHUNK)
                cursor, names = answer
                pipeline = self._redis.pipeline(transaction=False)
                for name in names:
                    pipeline.hget(name, "spec")
                specs = pipeline.execute()
            found |= {json.loads(spec)["performance_sha256"] for spec in specs if spec}
            if not cursor:
                return found

    def parked(self) -> list[tuple[str, str]]:
        """The parked messages with their reasons, newest first."""
        with translated(self._where):
            items: Any = self._redis.lrange(f"{PREFIX}parked", 0, -1)
        return [(message, reason) for message, reason in map(json.loads, items)]

    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive, by name."""
        alive = self._scripts.call("worker", name="", info="", alive_ms=self._alive_ms)
        # A newer version's workers say more of themselves.
        known = {field.name for field in fields(WorkerInfo)}
        told = [json.loads(info) | {"seen_at": int(float(seen)) / 1000.0} for info, seen in alive]
        found = [WorkerInfo(**{name: value for name, value in each.items() if name in known}) for each in told]
        return sorted(found, key=lambda worker: worker.name)

    def why_barred(self, host: str) -> str:
        """Why a host is out of rotation; "" if it is not."""
        with translated(self._where):
            record: Any = self._redis.hget(f"{PREFIX}barred", host)
        return str(json.loads(record)["why"]) if record else ""

    @property
    def _alive_ms(self) -> int:
        return round(max(60.0, 4 * self._settings.lease_s) * 1000)
