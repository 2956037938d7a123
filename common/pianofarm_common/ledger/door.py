"""Ledger: every question and every change of state, a method each; the changes themselves are the Lua scripts next door."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

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
from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, State
from pianofarm_common.settings import Settings


class Ledger:
    """The farm's memory.

    Every method raises ServiceUnavailable when Redis does not answer and BadSettings when it refuses our credentials. Every
    method may be called again after an error: a change that was made already is not made twice.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A ledger on `redis_url`; connects at the first call. Share one per process (thread-safe)."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection."""
        raise NotImplementedError

    def ping(self) -> str:
        """Ask Redis for a sign of life; returns "HOST:PORT, server version"."""
        raise NotImplementedError

    # -- asking -------------------------------------------------------------------------------------------------------

    def submit_many(self, requests: Sequence[JobRequest]) -> list[JobTicket]:
        """Enter jobs, in order; any number (sent in chunks of 500).

        A job attaches to the render of the same key if there is one: a finished one is a cache hit and the job is done at once; a
        failed or cancelled one starts anew; a quarantined one stays so until somebody retries it. Publish the keys of those tickets
        that say `needs_message` (`queue.publish_tickets`).
        """
        raise NotImplementedError

    def cancel_job(self, job_id: str) -> State:
        """Detach a job from its render; the render is cancelled when nobody waits any more. Returns the job's state.

        A job that is finished already stays as it is.

        Raises:
            NotFound: no such job.
        """
        raise NotImplementedError

    def cancel_batch(self, batch: str) -> int:
        """Cancel every unfinished job of a batch; returns how many were cancelled by this call.

        Raises:
            NotFound: no such batch.
        """
        raise NotImplementedError

    def retry(self, key: RenderKey) -> Publication:
        """Give a failed, quarantined or cancelled render a fresh set of attempts; publish what is returned.

        Raises:
            NotFound: no such render.
        """
        raise NotImplementedError

    # -- working ------------------------------------------------------------------------------------------------------

    def claim(self, key: RenderKey, worker: str, rest: Sequence[RenderKey] = ()) -> Claim | Refusal:
        """Take the lease of a queued render, and count the attempt, before any work.

        Args:
            key: what to make.
            worker: who claims; shown to people, kept as evidence.
            rest: keys of the same message that come after this one; if the worker dies they are published again at once.
        """
        raise NotImplementedError

    def heartbeat(self, key: RenderKey, token: str) -> bool:
        """Renew the lease. Returns True if the render was cancelled: stop working on it.

        Raises:
            LeaseLost: the token is no longer current.
        """
        raise NotImplementedError

    def progress(self, key: RenderKey, token: str, fraction: float, *, uploading: bool = False) -> bool:
        """Renew the lease and say how far the work is, 0..1. Returns and raises as `heartbeat` does."""
        raise NotImplementedError

    def commit(self, key: RenderKey, token: str, result: RenderResult) -> None:
        """Make the render done and tell every waiting job; call it after the objects are stored.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
            Cancelled: nobody waits any more; nothing was changed.
        """
        raise NotImplementedError

    def fail(self, key: RenderKey, token: str, error: BaseException, *, permanent: bool) -> State:
        """Record a failed attempt: QUEUED again after a wait with jitter, or FAILED if permanent or attempts are used up.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
        """
        raise NotImplementedError

    def release(self, key: RenderKey, token: str) -> None:
        """Hand a render back unfinished, its attempt uncounted; the next sweep publishes it.

        Raises:
            LeaseLost: the token is no longer current; nothing was changed.
        """
        raise NotImplementedError

    def higher_waits(self, priority: PriorityClass) -> bool:
        """True if a render of a more urgent class is queued."""
        raise NotImplementedError

    def sweep(self, backlog: Mapping[PriorityClass, int]) -> list[Publication]:
        """Find work that nobody does, queue it again, and return what to publish. Any number of sweepers may run.

        Covers leases that lapsed, waits that are over, and queued renders whose message is gone.

        Args:
            backlog: messages now waiting in the broker, by class (`queue.backlog`): where there are none, a render that is queued
                for `lost_message_s` has lost its message.
        """
        raise NotImplementedError

    def park(self, message: str, reason: str) -> None:
        """Keep a queue message that we cannot read (at most 1,000 of them) for a person to look at."""
        raise NotImplementedError

    def parked(self) -> list[tuple[str, str]]:
        """The parked messages with their reasons, newest first."""
        raise NotImplementedError

    # -- reading ------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobStatus:
        """Where a job stands.

        Raises:
            NotFound: no such job.
        """
        raise NotImplementedError

    def jobs(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Where several jobs stand, in one round trip per thousand.

        Raises:
            NotFound: one of them does not exist.
        """
        raise NotImplementedError

    def render(self, key: RenderKey) -> RenderStatus:
        """Where a render stands.

        Raises:
            NotFound: no such render.
        """
        raise NotImplementedError

    def batch(self, batch: str) -> BatchStatus:
        """Counts of a batch.

        Raises:
            NotFound: no such batch.
        """
        raise NotImplementedError

    def batch_jobs(self, batch: str) -> Iterator[str]:
        """The job ids of a batch, in the order of submission; nothing for an unknown batch."""
        raise NotImplementedError

    def events(self, batch: str | None, last_id: str = "0", block_ms: int = 0, count: int = 1000) -> list[Event]:
        """Events after `last_id`, oldest first; waits up to `block_ms` for the first one (0: does not wait).

        Args:
            batch: of this batch; None: of the whole farm.
            last_id: "0" for the oldest that is kept; "$" for those after this call.
            block_ms: longest wait, at most 30,000.
            count: at most this many.
        """
        raise NotImplementedError

    def depth(self, priority: PriorityClass) -> Depth:
        """How much work a class holds: what an autoscaler needs."""
        raise NotImplementedError

    def register_worker(self, worker: WorkerInfo) -> None:
        """Say that a worker is alive; forgotten after four leases, or a minute if that is longer."""
        raise NotImplementedError

    def forget_worker(self, name: str) -> None:
        """Say that a worker stopped as it should."""
        raise NotImplementedError

    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive, by name."""
        raise NotImplementedError
