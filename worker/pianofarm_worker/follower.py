"""The follower of the ledger's events: what ended, and how, becomes counters and histograms. Serves nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from pianofarm_common.errors import NotFound
from pianofarm_common.ledger import Event, JobStatus, Ledger, WorkerInfo
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.logs import get_logger
from pianofarm_common.metrics import ERRORS, FarmMetrics, device_kind, one_of
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings
from pianofarm_common.speedometer import Speedometer

#: Longest wait for events, and the step in which worker time is summed.
TICK_S = 1.0

#: Finished renders remembered, to count each once however many jobs waited for it; and names of workers.
REMEMBERED = 10_000

_FINAL = {str(state) for state in State if state.final}

log = get_logger(__name__)


class Follower:
    """Follows the ledger's events into counters."""

    def __init__(
        self,
        ledger: Ledger,
        taker: CensusTaker,
        settings: Settings,
        on_end: Callable[[JobStatus], None] | None = None,
    ) -> None:
        """Args: on_end: called with every job that ended."""
        self._on_end = on_end
        self.metrics = FarmMetrics()
        self.speedometer = Speedometer(settings.assumed_speed)
        self._ledger = ledger
        self._taker = taker
        self._price_per_s = settings.worker_price_per_h / 3600.0
        self._last_id = ""
        self._counted: OrderedDict[tuple[str, float], None] = OrderedDict()
        self._devices: OrderedDict[str, str] = OrderedDict()
        self._last_tick = time.monotonic()

    def start(self) -> None:
        """Find the place to follow from, and the speed of the past. Raises ServiceUnavailable."""
        self._last_id = self._taker.newest_event()
        self.speedometer.remember(self._ledger, self._taker)

    def step(self) -> None:
        """Wait up to `TICK_S` for events and count them. Raises ServiceUnavailable; nothing is counted twice after it."""
        if not self._last_id:
            self.start()
        workers = self._ledger.workers()
        self._meet(workers)
        self._count_time(workers)
        events = self._ledger.events(None, self._last_id, block_ms=round(TICK_S * 1000))
        self._count(events)
        if events:
            self._last_id = events[-1].id

    def _meet(self, workers: Iterable[WorkerInfo]) -> None:
        for worker in workers:
            self._devices[worker.name] = worker.device
            self._devices.move_to_end(worker.name)
        while len(self._devices) > REMEMBERED:
            self._devices.popitem(last=False)

    def _count_time(self, workers: Iterable[WorkerInfo]) -> None:
        now = time.monotonic()
        # After an outage nobody knows who was alive: a gap is not filled.
        passed_s, self._last_tick = min(now - self._last_tick, 5 * TICK_S), now
        for worker in workers:
            kind = device_kind(worker.device)
            self.metrics.worker_s.labels(kind).inc(passed_s)
            self.metrics.cost.labels(kind).inc(passed_s * self._price_per_s)

    def _count(self, events: list[Event]) -> None:
        """Count events, or nothing of them if the ledger fails: everything is read first."""
        ends = {event.job_id: event for event in events if event.kind in _FINAL}
        jobs = self._jobs(list(ends))
        retried = {event.key: event for event in events if event.kind == "retry"}
        reasons = [self._error_of(event) for event in retried.values()]
        for reason in reasons:
            self.metrics.retries.labels(reason).inc()
        self.metrics.released.inc(len({event.key for event in events if event.kind == "released"}))
        for job in jobs:
            event = ends[job.job_id]
            self._count_job(job, event)
            _write_down(job, event)
            if self._on_end is not None:
                self._on_end(job)

    def _count_job(self, job: JobStatus, event: Event) -> None:
        name = str(job.priority)
        self.metrics.jobs.labels(name, event.kind).inc()
        self.metrics.job_latency_s.labels(name).observe(max(0.0, event.at - job.created_at))
        if job.cached:
            self.metrics.cache_hits.labels(name).inc()
            return
        render = job.render
        if render is None or not self._is_new(render.key, render.finished_at):
            return
        if render.result is not None:
            device = self._devices.get(render.result.worker, "")
            self.metrics.renders.observe(render.result, str(render.priority), device)
            self.speedometer.add(render.result, device)
            spent_s = render.result.render_s + render.result.upload_s
            self.metrics.busy_s.labels(device_kind(device)).inc(spent_s)
        elif event.kind in (State.FAILED, State.QUARANTINED):
            self.metrics.failures.labels(one_of(render.error_type, ERRORS)).inc()

    def _is_new(self, key: str, finished_at: float) -> bool:
        mark = (key, finished_at)
        if mark in self._counted:
            return False
        self._counted[mark] = None
        if len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)
        return True

    def _jobs(self, job_ids: list[str]) -> list[JobStatus]:
        try:
            return self._ledger.jobs(job_ids)
        except NotFound:
            # One of them expired meanwhile: the others still count.
            return [job for job_id in job_ids for job in self._job(job_id)]

    def _job(self, job_id: str) -> Iterator[JobStatus]:
        try:
            yield self._ledger.job(job_id)
        except NotFound:
            return

    def _error_of(self, event: Event) -> str:
        try:
            return one_of(self._ledger.render(event.key).error_type, ERRORS)
        except NotFound:
            return one_of("", ERRORS)


def _write_down(job: JobStatus, event: Event) -> None:
    """The line that ties a job, its render and its trace together: workers know renders only, and many jobs may wait for one."""
    write = log.debug if job.cached else log.info
    write("job ended", job=job.job_id, trace=job.job_id, render=job.key, batch=job.batch, state=event.kind)
