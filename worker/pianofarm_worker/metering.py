"""What a worker process measures of itself, the port where it can be read, and whom it charges. Wraps the ledger and the maker.

Off unless `worker_metrics_port` is set: the exporter knows everything about renders from the ledger, of workers that were killed
too. This adds what only the process knows: attempts by error, lost leases, refused messages, its device.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Self

from prometheus_client import PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily

from pianofarm_common.errors import Cancelled, LeaseLost, PianofarmError
from pianofarm_common.ledger import Claim, Ledger, Refusal
from pianofarm_common.ledger.budgets import Budgets
from pianofarm_common.logs import get_logger
from pianofarm_common.metrics import WorkerMetrics
from pianofarm_common.renders import RenderKey, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_worker.device_stats import Meter, meter_of
from pianofarm_worker.devices import cores
from pianofarm_worker.pulse import Hold
from pianofarm_worker.tasks import Maker
from pianofarm_worker.workshop import Made, Outcome

#: Workers of one host take the first free port from `worker_metrics_port` on.
MAX_PORTS = 64

log = get_logger(__name__)


class MeteredLedger(Ledger):
    """A ledger that counts what its worker is told."""

    metrics: WorkerMetrics | None = None
    budgets: Budgets | None = None

    @classmethod
    def watched_by(cls, metrics: WorkerMetrics, settings: Settings) -> Self:
        """A ledger on `redis_url` that counts into `metrics`."""
        ledger = cls.from_settings(settings)
        ledger.metrics = metrics
        ledger.budgets = Budgets.from_settings(ledger, settings)
        return ledger

    def claim_many(
        self, keys: Sequence[RenderKey], worker: str, rest: Sequence[RenderKey] = (), made: Sequence[Claim] = ()
    ) -> list[Claim | Refusal]:
        """As `Ledger.claim_many`, after the jobs that have no budget left are cancelled."""
        if self.budgets is not None:
            self.budgets.enforce(keys)
        answers = super().claim_many(keys, worker, rest, made)
        if self.metrics is not None:
            self.metrics.last_progress.set_to_current_time()
            for answer in answers:
                if isinstance(answer, Refusal):
                    self.metrics.refusals.labels(str(answer)).inc()
        return answers

    def commit_many(self, made: Sequence[tuple[RenderKey, str, RenderResult]]) -> list[LeaseLost | Cancelled | None]:
        """As `Ledger.commit_many`. Where it raises, a service is away for a moment: it is tried again, and no end."""
        problems = super().commit_many(made)
        if self.metrics is not None:
            for problem in problems:
                self.metrics.ended(problem)
        return problems


class MeteredMaker:
    """A maker that times what it makes and counts what it cannot make."""

    def __init__(self, maker: Maker, metrics: WorkerMetrics, device: str, budgets: Budgets | None = None) -> None:
        """Args: budgets: charged with the time of every attempt, what its upload takes beside other work left out."""
        self._maker = maker
        self._budgets = budgets
        self._metrics = metrics
        self._device = device

    def places(self, spec: RenderSpec | None = None) -> int:
        """As the maker within."""
        return self._maker.places(spec)

    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Outcome]]:
        """As the maker within. Renders made together share the time until the first of them is ready."""
        began, share_s = time.monotonic(), 0.0
        for number, (hold, outcome) in enumerate(self._maker.render(holds)):
            spent_s = time.monotonic() - began
            if number == 0:
                share_s = spent_s = spent_s / len(holds)
            else:
                spent_s += share_s
            self._charge(hold.claim, spent_s)
            if isinstance(outcome, Exception):
                self._metrics.ended(outcome)
            yield hold, outcome
            began = time.monotonic()

    def store(self, hold: Hold, made: Made | RenderResult) -> RenderResult:
        """As the maker within; the success of an attempt is counted at its commit."""
        try:
            result = self._maker.store(hold, made)
        except BaseException as error:
            self._metrics.ended(error)
            raise
        self._metrics.renders.observe(result, str(hold.claim.priority), self._device)
        return result

    def _charge(self, claim: Claim, worker_s: float) -> None:
        if self._budgets is not None:
            try:
                self._budgets.charge(claim.key, worker_s)
            except PianofarmError as error:
                # A render is worth more than its bill.
                log.warning("attempt not charged", error=str(error), worker_s=round(worker_s, 3))


def watch_device(metrics: WorkerMetrics, meter: Meter) -> None:
    """Read the device at every scrape."""

    class DeviceCollector:
        def collect(self) -> list[GaugeMetricFamily]:
            memory = GaugeMetricFamily(
                "pianofarm_worker_device_memory_bytes",
                "Memory of the device this worker computes on; for a CPU that of the process, and of the host.",
                labels=["kind"],
            )
            busy = GaugeMetricFamily("pianofarm_worker_device_utilization_ratio", "How busy the device is, 0 to 1.")
            try:
                stats = meter.read()
            except OSError as error:
                log.warning("device not read", error=str(error))
                return []
            memory.add_metric(["used"], stats.used_bytes)
            memory.add_metric(["total"], stats.total_bytes)
            busy.add_metric([], stats.utilization)
            return [memory, busy]

    metrics.registry.register(DeviceCollector())


def serve_metrics(settings: Settings, device: str) -> WorkerMetrics:
    """The metrics of this process, served on the first free port from `worker_metrics_port` on; call it after the fork.

    No free port, or `worker_metrics_port` 0: they are counted and not served. A worker never fails for that.
    """
    metrics = WorkerMetrics()
    metrics.last_progress.set_to_current_time()
    watch_device(metrics, meter_of(device, len(cores())))
    PlatformCollector(registry=metrics.registry)
    ProcessCollector(registry=metrics.registry)
    first = settings.worker_metrics_port
    for port in range(first, min(first + MAX_PORTS, 65_536)) if first else ():
        try:
            start_http_server(port, addr=settings.metrics_bind, registry=metrics.registry)
        except OSError:
            continue
        log.info("metrics served", address=f"{settings.metrics_bind}:{port}")
        break
    else:
        if first:
            log.warning("metrics not served", first_port=first, ports_tried=MAX_PORTS)
    return metrics
