"""What a submission gives back: Job (one render asked for), Batch (jobs asked for together), Result (audio to fetch)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pianofarm.destination import arriving, check_writable
from pianofarm.services import Services
from pianofarm.submission import Rejected
from pianofarm_common import errors
from pianofarm_common.errors import Cancelled, NotFound, Permanent, PianofarmError, ServiceUnavailable
from pianofarm_common.ledger import BatchStatus, Event, JobStatus
from pianofarm_common.renders import RenderKey, RenderResult, State

#: Longest wait for one answer of the event stream; only decides how soon a lost connection is noticed.
_BLOCK_MS = 2_000


class Result:
    """A finished render: what is known of it, and its audio."""

    def __init__(self, services: Services, info: RenderResult) -> None:
        self._services = services
        self.info = info  #: length, loudness, digest, object keys, timings

    def __repr__(self) -> str:
        return f"Result({self.info.audio_s:.1f} s, {self.info.audio_key})"

    def bytes(self) -> bytes:
        """The audio file as bytes, e.g. for `IPython.display.Audio`.

        Raises:
            NotFound: the store no longer has it.
            ServiceUnavailable: the store does not answer.
        """
        return self._services.store.get(self.info.audio_key)

    def url(self, ttl_s: int | None = None) -> str:
        """A URL that lets anybody who has it read the audio for `ttl_s` seconds (default: the setting `presign_ttl_s`)."""
        return self._services.store.presign(self.info.audio_key, ttl_s or self._services.settings.presign_ttl_s)

    def download(self, path: str | Path) -> Path:
        """Write the audio to a file, whole or not at all; returns its path.

        Raises:
            BadOption: the place cannot be written to.
            DiskFull: no room; nothing is left behind.
            NotFound: the store no longer has it.
            ServiceUnavailable: the store does not answer, or what it sent is damaged.
        """
        return self._fetch(self.info.audio_key, Path(path), self.info.audio_sha256)

    def download_dry(self, path: str | Path) -> Path:
        """Write the sound before the room to a file; raises as `download` does.

        Raises:
            NotFound: the render was asked for without `dry`.
        """
        if self.info.dry_key is None:
            raise NotFound("this render has no dry sound: submit it with the option dry=True")
        return self._fetch(self.info.dry_key, Path(path), None)

    def _fetch(self, key: str, path: Path, sha256: str | None) -> Path:
        check_writable(path)
        with arriving(path) as temporary:
            self._services.store.download(key, temporary)
            if sha256 is not None:
                with temporary.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != sha256:
                    raise ServiceUnavailable(
                        f"{key} arrived damaged (sha256 {found[:12]}, expected {sha256[:12]}): fetch it again"
                    )
        return path


@dataclass(frozen=True, slots=True)
class Job:
    """One job: somebody asked for one render."""

    services: Services
    id: str
    batch: str
    key: RenderKey
    name: str = ""
    cached: bool = False  #: the render was finished before it was asked for

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.name!r})"

    def status(self) -> JobStatus:
        """Where the job stands now.

        Raises:
            NotFound: the farm forgot it (`ledger_ttl_s` after its end).
            ServiceUnavailable: Redis does not answer.
        """
        return self.services.ledger.job(self.id)

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Wait until nothing more happens to the job by itself, whatever its end.

        Raises:
            TimeoutError: it is not finished after `timeout_s` seconds; it goes on.
            NotFound, ServiceUnavailable: as `status`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        status = self.status()
        # Events carry the clock of Redis, as created_at does: nothing that happened to the job lies before it.
        last_id = f"{max(0, int(status.created_at * 1000) - 1)}-0"
        while not status.state.final:
            wait_ms = _BLOCK_MS if deadline is None else min(_BLOCK_MS, int((deadline - time.monotonic()) * 1000))
            if wait_ms <= 0:
                raise TimeoutError(
                    f"job {self.id} is {status.state} after {timeout_s:g} s; it goes on ('pianofarm status {self.id}')"
                )
            events = self.services.ledger.events(self.batch, last_id, block_ms=wait_ms)
            if events:
                last_id = events[-1].id
            # A quiet stream is no proof that nothing happened: it is bounded, and Redis may have been restarted.
            if not events or any(event.job_id == self.id and ends(event) for event in events):
                status = self.status()
        return status

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for the render and return it.

        Raises:
            Cancelled: the job was cancelled.
            Permanent: the render failed; the class is that of the worker's error, its message the worker's.
            TimeoutError, NotFound, ServiceUnavailable: as `wait`.
        """
        return result_of(self.services, self.wait(timeout_s))

    def cancel(self) -> State:
        """Detach the job from its render, which stops when nobody else waits for it; returns the job's state."""
        return self.services.ledger.cancel_job(self.id)


class Batch:
    """Jobs that were submitted together."""

    def __init__(
        self, services: Services, batch_id: str, jobs: list[Job] | None = None, rejected: list[Rejected] | None = None
    ) -> None:
        self.services = services
        self.id = batch_id
        self.rejected = rejected or []  #: what never became a job, with its reason
        self._jobs = jobs

    def __repr__(self) -> str:
        return f"Batch({self.id})"

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    @property
    def jobs(self) -> list[Job]:
        """The jobs in the order of submission; read from the ledger where this process did not submit them.

        Raises:
            NotFound: no such batch.
            ServiceUnavailable: Redis does not answer.
        """
        if self._jobs is None:
            ledger = self.services.ledger
            statuses = ledger.jobs(list(ledger.batch_jobs(self.id)))
            if not statuses:
                raise NotFound(f"no batch {self.id!r}: 'pianofarm submit' prints the batch it makes")
            self._jobs = [
                Job(self.services, status.job_id, status.batch, status.key, status.name, status.cached)
                for status in statuses
            ]
        return self._jobs

    def status(self) -> BatchStatus:
        """How many jobs stand where.

        Raises:
            NotFound: no such batch.
            ServiceUnavailable: Redis does not answer.
        """
        return self.services.ledger.batch(self.id)

    def statuses(self) -> list[JobStatus]:
        """Where every job stands, in the order of submission. Raises as `jobs`."""
        return self.services.ledger.jobs([job.id for job in self.jobs])

    def watch(self) -> Iterator[Event]:
        """Every event of the batch from its beginning, as it happens, until all of its jobs are finished.

        Raises:
            NotFound: no such batch.
            ServiceUnavailable: Redis does not answer.
        """
        ledger, last_id, n_jobs = self.services.ledger, "0", self.status().total
        finished: set[str] = set()
        while True:
            events = ledger.events(self.id, last_id, block_ms=_BLOCK_MS)
            for event in events:
                last_id = event.id
                if ends(event):
                    finished.add(event.job_id)
                yield event
            # The stream is bounded: where its oldest events are gone, the counts say whether there is more to come.
            if len(finished) >= n_jobs or (not events and self.status().final):
                return

    def wait(self, timeout_s: float | None = None) -> BatchStatus:
        """Wait until every job is finished, whatever its end.

        Raises:
            TimeoutError: some are not after `timeout_s` seconds; they go on.
            NotFound, ServiceUnavailable: as `status`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for job in self.jobs:
            job.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self.status()

    def cancel(self) -> int:
        """Cancel every job that is not finished; returns how many this call cancelled."""
        return self.services.ledger.cancel_batch(self.id)


def ends(event: Event) -> bool:
    """True for the last event of a job."""
    return event.kind in set(State) and State(event.kind).final


def result_of(services: Services, status: JobStatus) -> Result:
    """The result of a finished job.

    Raises:
        Cancelled: it was cancelled.
        Permanent: it failed, it is not finished, or the farm forgot its render.
    """
    if status.state is State.DONE:
        if status.render is None or status.render.result is None:
            raise NotFound(f"the farm forgot the render of job {status.job_id}: submit it again")
        return Result(services, status.render.result)
    if status.state is State.CANCELLED:
        raise Cancelled(f"job {status.job_id} was cancelled{': ' + status.error if status.error else ''}")
    if not status.state.final:
        raise Permanent(f"job {status.job_id} is {status.state}: wait for it")
    raise _worker_error(status)


def _worker_error(status: JobStatus) -> PianofarmError:
    """The error that ended a render, as the class it had in the worker."""
    kind = getattr(errors, status.error_type, None)
    if isinstance(kind, type) and issubclass(kind, Permanent):
        return kind(status.error)
    what = "killed its workers and is quarantined" if status.state is State.QUARANTINED else "failed"
    return Permanent(f"the render of job {status.job_id} {what}: {status.error or 'no reason known'}")
