"""Ledger: every question and every change of state, a method each; the changes themselves are the Lua scripts next door."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self, TypeVar

import redis

from pianofarm_common.errors import Cancelled, LeaseLost, NotFound
from pianofarm_common.ledger.connection import address, connect, translated
from pianofarm_common.ledger.records import batch_status, event, job_status, render_status
from pianofarm_common.ledger.scripts import PREFIX, Scripts
from pianofarm_common.ledger.values import (
    BatchStatus,
    Claim,
    Depth,
    Event,
    JobRequest,
    JobStatus,
    JobTicket,
    Publication,
    Refusal,
    RenderStatus,
    WorkerInfo,
)
from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, RenderSpec, State
from pianofarm_common.settings import Settings

#: Jobs entered or cancelled in one step of Redis: some 10 ms, during which nobody else is served.
SUBMIT_CHUNK = 500

#: Records read in one round trip.
READ_CHUNK = 1000

#: Renders of each kind that one sweep takes.
SWEEP_LIMIT = 500

#: Longest wait for events.
MAX_BLOCK_MS = 30_000

#: Error texts are cut here.
ERROR_CHARACTERS = 2000

Item = TypeVar("Item")


class Ledger:
    """The farm's memory.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials. Every
    method may be called again after an error: a change that was made already is not made twice.
    """

    def __init__(self, settings: Settings, client: redis.Redis, blocking: redis.Redis) -> None:
        self._settings = settings
        self._redis = client
        self._blocking = blocking
        self._where = address(settings.redis_url.get_secret_value())
        self._scripts = Scripts(client, settings, self._where)

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

    # -- asking -------------------------------------------------------------------------------------------------------

    def submit_many(self, requests: Sequence[JobRequest]) -> list[JobTicket]:
        """Enter jobs, in order; any number (sent in chunks of 500).

        A job attaches to the render of the same key if there is one: a finished one is a cache hit and the job is done at once; a
        failed or cancelled one starts anew; a quarantined one stays so until somebody retries it. Publish the keys of those tickets
        that say `needs_message` (`queue.publish_tickets`).
        """
        tickets: list[JobTicket] = []
        for chunk in _chunks(requests, SUBMIT_CHUNK):
            entries = [
                {
                    "key": request.spec.key,
                    "job": request.job_id,
                    "batch": request.batch,
                    "owner": request.owner[:200],
                    "name": request.name[:500],
                    "cls": str(request.priority),
                    "spec": request.spec.model_dump_json(),
                    "ams": round(request.spec.audio_s * 1000),
                }
                for request in chunk
            ]
            answers = self._scripts.call("submit", jobs=entries)
            for request, entry, (state, priority, cached, needs_message) in zip(chunk, entries, answers, strict=True):
                tickets.append(
                    JobTicket(
                        job_id=request.job_id,
                        batch=request.batch,
                        key=RenderKey(str(entry["key"])),
                        state=State(state),
                        priority=PriorityClass(priority),
                        cached=bool(cached),
                        needs_message=bool(needs_message),
                    )
                )
        return tickets

    def cancel_job(self, job_id: str) -> State:
        """Detach a job from its render; the render is cancelled when nobody waits any more. Returns the job's state.

        A job that is finished already stays as it is.

        Raises:
            NotFound: no such job.
        """
        (before,) = self._scripts.call("cancel", jobs=[job_id])
        if before == "unknown":
            raise NotFound(f"no job {job_id!r}: it expired or was never submitted (pianofarm submit prints the ids)")
        return State(before) if before else State.CANCELLED

    def cancel_batch(self, batch: str) -> int:
        """Cancel every unfinished job of a batch; returns how many were cancelled by this call.

        Raises:
            NotFound: no such batch.
        """
        self.batch(batch)
        n_cancelled = 0
        for chunk in _chunks(list(self.batch_jobs(batch)), SUBMIT_CHUNK):
            n_cancelled += sum(before == "" for before in self._scripts.call("cancel", jobs=chunk))
        return n_cancelled

    def retry(self, key: RenderKey) -> Publication | None:
        """Give a failed or quarantined render a fresh set of attempts; its jobs wait again. Publish what is returned.

        Returns None where the render stands otherwise: there is nothing to retry.

        Raises:
            NotFound: no such render.
        """
        priority = self._scripts.call("retry", key=key)
        if priority == "unknown":
            raise NotFound(f"no render {key!r} in the ledger: it expired or was never submitted")
        return Publication(PriorityClass(priority), (key,)) if priority else None

    # -- working ------------------------------------------------------------------------------------------------------

    def claim(self, key: RenderKey, worker: str, rest: Sequence[RenderKey] = ()) -> Claim | Refusal:
        """Take the lease of a queued render, and count the attempt, before any work.

        Args:
            key: what to make.
            worker: who claims; shown to people, kept as evidence.
            rest: keys of the same message that come after this one; if the worker dies they are published again at once.
        """
        answer = self._scripts.call(
            "claim",
            key=key,
            worker=worker[:200],
            nonce=secrets.token_hex(8),
            rest=json.dumps(list(rest)) if rest else "",
        )
        if answer[0] != "ok":
            return Refusal(answer[0])
        _, token, spec, attempt, priority, queue_ms = answer
        return Claim(
            key=key,
            token=token,
            lease_s=self._settings.lease_s,
            spec=RenderSpec.model_validate_json(spec),
            attempt=int(attempt),
            priority=PriorityClass(priority),
            queue_s=max(0.0, int(queue_ms) / 1000.0),
        )

    def heartbeat(self, key: RenderKey, token: str) -> bool:
        """Renew the lease. Returns True if the render was cancelled: stop working on it.

        Raises:
            LeaseLost: the token is no longer current.
        """
        return self._renew(key, token, -1.0, uploading=False)

    def progress(self, key: RenderKey, token: str, fraction: float, *, uploading: bool = False) -> bool:
        """Renew the lease and say how far the work is, 0..1. Returns and raises as `heartbeat` does."""
        return self._renew(key, token, min(1.0, max(0.0, fraction)), uploading=uploading)

    def _renew(self, key: RenderKey, token: str, fraction: float, *, uploading: bool) -> bool:
        answer = self._scripts.call("heartbeat", key=key, token=token, fraction=fraction, uploading=uploading)
        if answer < 0:
            raise LeaseLost(_lost(key))
        return bool(answer)

    def commit(self, key: RenderKey, token: str, result: RenderResult) -> None:
        """Make the render done and tell every waiting job; call it after the objects are stored.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
            Cancelled: nobody waits any more; nothing was changed.
        """
        answer = self._scripts.call("commit", key=key, token=token, result=result.model_dump_json())
        if answer == "lost":
            raise LeaseLost(_lost(key))
        if answer == "cancelled":
            raise Cancelled(f"render {key} was cancelled: nobody waits for it any more")

    def fail(self, key: RenderKey, token: str, error: BaseException, *, permanent: bool) -> State:
        """Record a failed attempt: QUEUED again after a wait with jitter, or FAILED if permanent or attempts are used up.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
        """
        answer = self._scripts.call(
            "fail",
            key=key,
            token=token,
            permanent=permanent,
            et=type(error).__name__,
            err=str(error)[:ERROR_CHARACTERS],
            jitter=random.random(),
            base_ms=round(self._settings.backoff_base_s * 1000),
            cap_ms=round(self._settings.backoff_max_s * 1000),
        )
        if answer == "lost":
            raise LeaseLost(_lost(key))
        return State(answer)

    def release(self, key: RenderKey, token: str) -> None:
        """Hand a render back unfinished, its attempt uncounted; the next sweep publishes it.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
        """
        if self._scripts.call("release", key=key, token=token) == "lost":
            raise LeaseLost(_lost(key))

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

    def sweep(self, backlog: Mapping[PriorityClass, int]) -> list[Publication]:
        """Find work that nobody does, queue it again, and return what to publish. Any number of sweepers may run.

        Covers leases that lapsed, waits that are over, and queued renders whose message is gone.

        Args:
            backlog: messages now waiting in the broker, by class (`queue.backlog`): where there are none, a render that is queued
                for `lost_message_s` has lost its message.
        """
        found = self._scripts.call(
            "sweep",
            limit=SWEEP_LIMIT,
            lost_ms=round(self._settings.lost_message_s * 1000),
            backlog={str(name): backlog.get(name, 0) for name in PriorityClass},
        )
        alone = [Publication(PriorityClass(name), (RenderKey(key),)) for name, key, single in found if single]
        together = [
            Publication(priority, keys)
            for priority in PriorityClass
            if (keys := tuple(RenderKey(key) for name, key, single in found if name == priority and not single))
        ]
        return alone + together

    def adopt(self, results: Sequence[RenderResult]) -> int:
        """Enter finished renders from their sidecars, after Redis lost its memory; returns how many were not known as done.

        Jobs that wait for one of them are done at once.
        """
        n_new = 0
        for chunk in _chunks(results, SUBMIT_CHUNK):
            entries = [
                {
                    "key": result.key,
                    "spec": result.spec.model_dump_json(),
                    "result": result.model_dump_json(),
                    "ams": round(result.spec.audio_s * 1000),
                }
                for result in chunk
            ]
            n_new += int(self._scripts.call("adopt", renders=entries))
        return n_new

    def forget(self, key: RenderKey) -> bool:
        """Forget a done render, because its audio is gone from the store: the next submission makes it again."""
        return bool(self._scripts.call("forget", key=key))

    def quarantined(self) -> list[RenderStatus]:
        """Renders that killed their workers, newest first, at most 1,000."""
        with translated(self._where):
            keys: Any = self._redis.zrange(f"{PREFIX}quarantine", 0, 999, desc=True)
        return list(self._renders(keys).values())

    def park(self, message: str, reason: str) -> None:
        """Keep a queue message that we cannot read (at most 1,000 of them) for a person to look at."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.lpush(f"{PREFIX}parked", json.dumps([message[:2000], reason[:ERROR_CHARACTERS]]))
            pipeline.ltrim(f"{PREFIX}parked", 0, 999)
            pipeline.execute()

    def parked(self) -> list[tuple[str, str]]:
        """The parked messages with their reasons, newest first."""
        with translated(self._where):
            items: Any = self._redis.lrange(f"{PREFIX}parked", 0, -1)
        return [(message, reason) for message, reason in map(json.loads, items)]

    # -- reading ------------------------------------------------------------------------------------------------------

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
        found: list[JobStatus] = []
        for chunk in _chunks(job_ids, READ_CHUNK):
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

    def render(self, key: RenderKey) -> RenderStatus:
        """Where a render stands.

        Raises:
            NotFound: no such render.
        """
        found = self._renders([key])
        return found[key] if found else render_status(key, {}, 0)

    def batch(self, batch: str) -> BatchStatus:
        """Counts of a batch.

        Raises:
            NotFound: no such batch.
        """
        with translated(self._where):
            record: Any = self._redis.hgetall(f"{PREFIX}batch:{batch}")
        return batch_status(batch, record)

    def batch_jobs(self, batch: str) -> Iterator[str]:
        """The job ids of a batch, in the order of submission; nothing for an unknown batch."""
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
        """
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

    def register_worker(self, worker: WorkerInfo) -> None:
        """Say that a worker is alive; forgotten after four leases, or a minute if that is longer."""
        info = json.dumps(asdict(worker))
        self._scripts.call("worker", name=worker.name, info=info, alive_ms=self._alive_ms)

    def forget_worker(self, name: str) -> None:
        """Say that a worker stopped as it should."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hdel(f"{PREFIX}workers", name)
            pipeline.zrem(f"{PREFIX}seen", name)
            pipeline.execute()

    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive, by name."""
        alive = self._scripts.call("worker", name="", info="", alive_ms=self._alive_ms)
        found = [WorkerInfo(**(json.loads(info) | {"seen_at": int(float(seen)) / 1000.0})) for info, seen in alive]
        return sorted(found, key=lambda worker: worker.name)

    @property
    def _alive_ms(self) -> int:
        return round(max(60.0, 4 * self._settings.lease_s) * 1000)


def _lost(key: RenderKey) -> str:
    return f"the lease of render {key} is lost: another worker has it, or it was finished meanwhile; this attempt is dropped"


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
