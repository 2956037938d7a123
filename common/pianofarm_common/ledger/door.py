"""Ledger: every change of state, a method each; the changes themselves are the Lua scripts, the questions are in `reading`."""

from __future__ import annotations

import json
import math
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal, TypeVar

from pianofarm_common.errors import Cancelled, LeaseLost, NotFound, PianofarmError
from pianofarm_common.ledger.connection import translated
from pianofarm_common.ledger.entry import SUBMIT_CHUNK, Entry
from pianofarm_common.ledger.records import spec_of
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.ledger.values import Claim, Publication, Refusal, WorkerInfo
from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, State

#: Renders of each kind that one sweep takes.
SWEEP_LIMIT = 500

#: Renders that a claim may publish: the worker does so before it begins with its own, for which somebody may wait.
CLAIM_ADMITS = 64

#: A render whose objects are being deleted is made by nobody for so long at most.
RETIRING_S = 600.0

#: Error texts are cut here.
ERROR_CHARACTERS = 2000

Item = TypeVar("Item")


class Ledger(Entry):
    """The farm's memory.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials. Every
    method may be called again after an error: a change that was made already is not made twice.
    """

    #: Publishes what has its turn when a claim made room for it; None leaves that to the sweeper. Must not raise.
    on_admitted: Callable[[Publication], None] | None = None

    # -- asking -------------------------------------------------------------------------------------------------------

    def cancel_job(self, job_id: str, reason: str = "cancelled by its submitter") -> State:
        """Detach a job from its render; the render is cancelled when nobody waits any more. Returns the job's state.

        A job that is finished already stays as it is; the others carry the reason as their error.

        Raises:
            NotFound: no such job.
        """
        self.check_own("job", [job_id])
        (before,) = self._scripts.call("cancel", jobs=[job_id], reason=reason[:ERROR_CHARACTERS])
        if before == "unknown":
            raise NotFound(f"no job {job_id!r}: it expired or was never submitted (pianofarm submit prints the ids)")
        return State(before) if before else State.CANCELLED

    def cancel_unpaid(self, job_id: str, reason: str) -> bool:
        """Cancel a job if its batch or owner has no budget left, which is looked up in the same step; False where there is some.

        What a worker calls: its user in Redis has no right to `cancel_job`.
        """
        return bool(self._scripts.call("spent", jobs=[job_id], reason=reason[:ERROR_CHARACTERS]))

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

    def cancel_all(self, kind: Literal["owner", "queue"], name: str) -> int:
        """Cancel every unfinished job of an owner or of a class; returns how many were cancelled by this call.

        Jobs that are submitted meanwhile may stay: drain the owner or the class first.

        Raises:
            NotFound: the settings bind this client to an owner: it cancels jobs and batches.
        """
        self.check_own(kind, [""])
        n_cancelled, found = 0, self.waiting_jobs(kind, name)
        while chunk := list(islice(found, SUBMIT_CHUNK)):
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
        """Take the lease of a queued render, and count the attempt, before any work; see `claim_many`."""
        return self.claim_many([key], worker, rest)[0]

    def claim_many(
        self, keys: Sequence[RenderKey], worker: str, rest: Sequence[RenderKey] = (), made: Sequence[Claim] = ()
    ) -> list[Claim | Refusal]:
        """Take the leases of queued renders that are to be made together; an answer for each.

        Args:
            keys: what to make.
            worker: who claims; shown to people, kept as evidence.
            rest: keys of the same message that come after these; if the worker dies they are published again at once.
            made: what this worker has made and not yet committed. If it dies now, nobody knows of which render it died: those
                in `made`, and those claimed together, get their attempt back, once, and are made alone from then on.
        """
        answers, admitted, priority, spread = self._scripts.call(
            "claim",
            keys=list(keys),
            worker=worker[:200],
            nonce=secrets.token_hex(8),
            rest=json.dumps(list(rest)) if rest else "",
            made=[(claim.key, claim.token) for claim in made],
            admits=CLAIM_ADMITS if self.on_admitted else 0,
        )
        if admitted and self.on_admitted:
            self.on_admitted(Publication(PriorityClass(priority), tuple(map(RenderKey, admitted)), int(spread)))
        return [self._claimed(key, answer) for key, answer in zip(keys, answers, strict=True)]

    def _claimed(self, key: RenderKey, answer: list[Any]) -> Claim | Refusal:
        if answer[0] != "ok":
            return Refusal(answer[0])
        _, token, spec, attempt, priority, queue_ms, alone = answer
        return Claim(
            key=key,
            token=token,
            lease_s=self._settings.lease_s,
            spec=spec_of(spec),
            attempt=int(attempt),
            priority=PriorityClass(priority),
            queue_s=max(0.0, int(queue_ms) / 1000.0),
            alone=alone == "1",
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
        (problem,) = self.commit_many([(key, token, result)])
        if problem is not None:
            raise problem

    def commit_many(self, made: Sequence[tuple[RenderKey, str, RenderResult]]) -> list[LeaseLost | Cancelled | None]:
        """Commit several renders, each with its token, in one round trip; for each what `commit` would raise, None for success."""
        answers = self._scripts.call(
            "commit",
            *(result.model_dump_json() for _, _, result in made),
            keys=[key for key, _, _ in made],
            tokens=[token for _, token, _ in made],
        )
        problems: list[LeaseLost | Cancelled | None] = []
        for (key, _, _), answer in zip(made, answers, strict=True):
            match answer:
                case "lost":
                    problems.append(LeaseLost(_lost(key)))
                case "cancelled":
                    problems.append(Cancelled(f"render {key} was cancelled: nobody waits for it any more"))
                case _:
                    problems.append(None)
        return problems

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
            fault=not isinstance(error, PianofarmError),
            **self._wait(error),
        )
        if answer == "lost":
            raise LeaseLost(_lost(key))
        return State(answer)

    def defer(self, key: RenderKey, token: str, error: BaseException) -> State:
        """Hand a render back because a service is away: it waits, longer each time, with jitter; its attempt is not counted.

        Once that went on for `outage_patience_s`, its attempts are counted as by `fail`: what looks like an outage may be its own
        doing, an object that the store never takes.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
        """
        answer = self._scripts.call(
            "defer",
            key=key,
            token=token,
            patience_ms=round(self._settings.outage_patience_s * 1000),
            **self._wait(error),
        )
        if answer == "overdue":
            return self.fail(key, token, error, permanent=False)
        if answer == "lost":
            raise LeaseLost(_lost(key))
        return State(answer)

    def _wait(self, error: BaseException) -> dict[str, object]:
        """Why a render waits for another try, and how long."""
        return {
            "et": type(error).__name__,
            "err": str(error)[:ERROR_CHARACTERS],
            "jitter": random.random(),
            "base_ms": round(self._settings.backoff_base_s * 1000),
            "cap_ms": round(self._settings.backoff_max_s * 1000),
        }

    def release(self, key: RenderKey, token: str) -> None:
        """Hand a render back unfinished, its attempt uncounted; the next sweep publishes it.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
        """
        if self._scripts.call("release", key=key, token=token) == "lost":
            raise LeaseLost(_lost(key))

    def sweep(self, backlog: Mapping[PriorityClass, int]) -> list[Publication]:
        """Find work that nobody does, queue it again, and return what to publish. Any number of sweepers may run.

        Covers leases that lapsed, waits and pauses that are over, queued renders whose message is gone, and those whose turn it is.

        Args:
            backlog: messages now waiting in the broker, by class (`queue.backlog`): where there are none, a render that is queued
                for `lost_message_s` has lost its message.
        """
        found, admitted = self._scripts.call(
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
        turns = [
            Publication(PriorityClass(name), tuple(map(RenderKey, keys)), int(spread), is_turn=True)
            for name, spread, *keys in admitted
        ]
        return alone + together + turns

    def lapse_in_s(self) -> float:
        """Seconds until the first lease lapses that is not renewed by then; 0 or less where one has, infinite without leases."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.time()
            pipeline.zrange(f"{PREFIX}leases", 0, 0, withscores=True)
            (now_s, now_us), first = pipeline.execute()
        return float(first[0][1]) / 1000 - (now_s + now_us / 1e6) if first else math.inf

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

    def retire(self, keys: Sequence[RenderKey]) -> list[RenderKey]:
        """Those of these renders that the ledger does not know: nothing points to them, and their objects may be deleted.

        None of them is claimed or adopted until `retired` is called, or `RETIRING_S` have passed.
        """
        free = self._scripts.call("retire", keys=list(keys), ms=round(RETIRING_S * 1000))
        return [RenderKey(key) for key in free]

    def retired(self, keys: Sequence[RenderKey]) -> None:
        """Say that the objects of these renders are deleted: they may be made again."""
        if keys:
            with translated(self._where):
                self._redis.delete(*(f"{PREFIX}retiring:{key}" for key in keys))

    def first_in(self, name: str, period_s: float) -> bool:
        """True for one caller in each period, for what several processes could do and one should."""
        with translated(self._where):
            return bool(self._redis.set(f"{PREFIX}once:{name}", "1", nx=True, px=max(1, round(period_s * 1000))))

    def drop(self, key: RenderKey) -> bool:
        """Forget a quarantined render for good; its jobs stay quarantined. Returns False where it is not in quarantine."""
        return bool(self._scripts.call("drop", key=key))

    def park(self, message: str, reason: str) -> None:
        """Keep a queue message that we cannot read (at most 1,000 of them) for a person to look at."""
        with translated(self._where):
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.lpush(f"{PREFIX}parked", json.dumps([message[:2000], reason[:ERROR_CHARACTERS]]))
            pipeline.ltrim(f"{PREFIX}parked", 0, 999)
            pipeline.execute()

    # -- workers ------------------------------------------------------------------------------------------------------

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


def _lost(key: RenderKey) -> str:
    return f"the lease of render {key} is lost: another worker has it, or it was finished meanwhile; this attempt is dropped"


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
