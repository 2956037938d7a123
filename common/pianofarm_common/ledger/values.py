"""What goes into the ledger and what comes out of it: plain values, no Redis here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, RenderSpec, State


def new_id(owner: str = "") -> str:
    """A fresh job or batch id: 128 random bits as 32 hex digits, so that nobody can guess another's.

    Of a client that is bound to an owner (the setting `owner`) it begins with that owner, `OWNER.`, so that a user of Redis can be
    given the jobs of one.
    """
    return own_prefix(owner) + secrets.token_hex(16)


def new_ids(n_ids: int, owner: str = "") -> list[str]:
    """Many of them at once: a question to the kernel for each would let other threads run each time, and wait for them."""
    digits, prefix = secrets.token_hex(16 * n_ids), own_prefix(owner)
    return [prefix + digits[start : start + 32] for start in range(0, 32 * n_ids, 32)]


def own_prefix(owner: str) -> str:
    """What the ids of an owner's jobs and batches begin with; "" where a client is bound to none."""
    return f"{owner}." if owner else ""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Somebody asks for a render. The id is chosen here, so that sending a request twice makes one job."""

    spec: RenderSpec
    batch: str  #: from `new_id()`; jobs submitted together share one
    owner: str = ""  #: for people and for shares; at most 200 characters
    priority: PriorityClass = PriorityClass.STANDARD
    name: str = ""  #: what the submitter calls it, usually the file name; at most 500 characters
    job_id: str = field(default_factory=new_id)


class JobTicket(NamedTuple):
    """The ledger's answer to one request. A tuple, which is made in a third of the time: there may be 100,000."""

    job_id: str
    batch: str
    key: RenderKey
    state: State  #: DONE at once where the render is in the cache
    priority: PriorityClass  #: class of the render, which other waiting jobs may have raised
    cached: bool  #: the render was finished before this request
    needs_message: bool  #: the caller must publish `key` now (the sweeper does it later if the caller dies)


class Refusal(StrEnum):
    """Why a claim was refused; the worker drops the key from its message and goes on."""

    UNKNOWN = "unknown"  #: no such render in this ledger (expired, or another farm's message)
    FINISHED = "finished"  #: done, failed or quarantined
    CANCELLED = "cancelled"  #: nobody waits for it any more
    HELD = "held"  #: another worker has a valid lease
    BARRED = "barred"  #: the worker's host is out of rotation; the next sweep publishes the render for others
    PAUSED = "paused"  #: its class, or the owners or batches of all who wait for it; published again after the pause
    BACKOFF = "backoff"  #: an earlier attempt failed; the sweeper publishes it when its wait is over


@dataclass(frozen=True)
class Claim:
    """The right to make one render until the lease lapses."""

    key: RenderKey
    token: str  #: fencing token: a number that only rises, and the claim's own nonce
    lease_s: float  #: lapses this long after the last heartbeat
    spec: RenderSpec
    attempt: int  #: 1 for the first try
    priority: PriorityClass
    queue_s: float  #: time from submission to this claim, in seconds
    alone: bool = False  #: a worker died with it and others in hand: make it with nothing else in hand


@dataclass(frozen=True)
class RenderStatus:
    """Where a render stands. Times are seconds since the epoch by the clock of Redis; 0.0 where it did not happen yet."""

    key: RenderKey
    state: State
    spec: RenderSpec
    priority: PriorityClass
    attempts: int
    kills: int  #: attempts that ended with a dead worker
    fraction: float  #: part of the audio made, 0..1
    worker: str
    submitted_at: float
    started_at: float
    finished_at: float
    error_type: str  #: class name of the last error, "" without one
    error: str
    waiting_jobs: int
    result: RenderResult | None
    alone: bool = False  #: see `Claim.alone`
    deferrals: int = 0  #: attempts that do not count, because a service was away
    died_on: tuple[
        str, ...
    ] = ()  #: hosts where a worker died of it, or failed in a way that nobody expected; several: it is the job


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands: its own final state, or that of its render while it waits."""

    job_id: str
    batch: str
    owner: str
    name: str
    key: RenderKey
    state: State
    priority: PriorityClass
    created_at: float
    finished_at: float
    cached: bool
    error_type: str
    error: str
    render: RenderStatus | None  #: None after the ledger forgot the render


@dataclass(frozen=True)
class BatchStatus:
    """How many jobs of a batch stand where."""

    batch: str
    total: int
    queued: int
    running: int  #: running and uploading
    done: int
    failed: int
    quarantined: int
    cancelled: int

    @property
    def finished(self) -> int:
        """Jobs for which nothing more will happen by itself."""
        return self.done + self.failed + self.quarantined + self.cancelled

    @property
    def final(self) -> bool:
        """True when every job of the batch is finished."""
        return self.finished >= self.total


@dataclass(frozen=True)
class Event:
    """One change, as read from a stream. `kind` is a state's name, or "progress", "retry", "released"."""

    id: str  #: pass the last one seen to `Ledger.events` to read on
    kind: str
    job_id: str
    batch: str
    key: RenderKey
    fraction: float
    worker: str
    error: str

    @property
    def at(self) -> float:
        """When it happened, in seconds since the epoch by the clock of Redis."""
        return int(self.id.split("-")[0]) / 1000.0


@dataclass(frozen=True)
class Publication:
    """Render keys that need a message in the queue of their class."""

    priority: PriorityClass
    keys: tuple[RenderKey, ...]
    spread: int = 16  #: bulk renders are bundled only so far that there are at least this many messages
    is_turn: bool = False  #: published for the first time, because it is their owner's turn


@dataclass(frozen=True)
class Depth:
    """How much work a class holds."""

    queued_renders: int
    queued_audio_s: float
    running_renders: int
    running_audio_s: float


@dataclass(frozen=True)
class WorkerInfo:
    """A worker process that is alive. Forgotten soon after its last sign of life."""

    name: str
    host: str
    pid: int
    device: str  #: "cpu" or "gpu:0"
    backend: str
    started_at: float
    seen_at: float = 0.0  #: by the clock of Redis; filled in by the ledger
    key: str = ""  #: the render in hand, "" when idle
    renders_done: int = 0
    rests: str = ""  #: why it takes no work now, "" if it does
    memory_mb: float = 0.0  #: resident; 0.0 where the system does not say
