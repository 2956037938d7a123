"""The exporter: `python -m pianofarm_worker.exporter` serves the state of the farm to Prometheus and to the autoscaler.

Run one. Gauges are read from the ledger at every scrape, so they are true whoever died; counters and histograms follow the ledger's
events from the exporter's start on. If it is down, what happens meanwhile is not counted, and nothing else suffers.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

from prometheus_client import start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Ledger, WorkerInfo
from pianofarm_common.ledger.census import Census, CensusTaker
from pianofarm_common.logs import configure, get_logger
from pianofarm_common.metrics import DEVICES, device_kind
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings
from pianofarm_common.speedometer import Speedometer
from pianofarm_worker.follower import Follower
from pianofarm_worker.tracing import Tracer

#: Longest pause while Redis does not answer.
MAX_PAUSE_S = 5.0

log = get_logger(__name__)


class FarmCollector:
    """The gauges, read when they are asked for."""

    def __init__(self, ledger: Ledger, taker: CensusTaker, speedometer: Speedometer) -> None:
        self._ledger = ledger
        self._taker = taker
        self._speedometer = speedometer

    def collect(self) -> Iterator[Metric]:
        """All gauges; only `pianofarm_ledger_up` 0 where Redis does not answer: no figure is better than an old one."""
        up = GaugeMetricFamily("pianofarm_ledger_up", "1 if the ledger answered this scrape.")
        try:
            census, workers = self._taker.take(), self._ledger.workers()
        except PianofarmError as error:
            log.warning("ledger not read", error=str(error))
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _of_classes(census)
        yield from _of_farm(census)
        yield from _of_workers(workers, self._speedometer)


def _of_classes(census: Census) -> Iterator[Metric]:
    families = {
        "queue_renders": "Renders waiting, those between two attempts included.",
        "queue_audio_seconds": "Audio in them, seconds.",
        "queue_oldest_seconds": "Time since the submission of the render that waits longest.",
        "leased_renders": "Renders in the hands of workers.",
        "leased_audio_seconds": "Audio in them, seconds.",
        "broker_messages": "Messages waiting in the broker; one may hold several renders.",
        "queue_paused": "1 while the class is paused: what waits is no work.",
    }
    made = {name: GaugeMetricFamily(f"pianofarm_{name}", text, labels=["class"]) for name, text in families.items()}
    for priority in PriorityClass:
        counted = census.classes[priority]
        depth = counted.depth
        for name, value in (
            ("queue_renders", depth.queued_renders),
            ("queue_audio_seconds", depth.queued_audio_s),
            ("queue_oldest_seconds", counted.oldest_s),
            ("leased_renders", depth.running_renders),
            ("leased_audio_seconds", depth.running_audio_s),
            ("broker_messages", counted.broker_messages),
            ("queue_paused", int(counted.is_paused)),
        ):
            made[name].add_metric([str(priority)], value)
    yield from made.values()


def _of_farm(census: Census) -> Iterator[Metric]:
    for name, text, value in (
        ("backoff_renders", "Renders that wait for their next attempt.", census.backoff_renders),
        ("quarantined_renders", "Renders put aside because they killed their workers.", census.quarantined_renders),
        ("paused_renders", "Renders that met a pause and wait for its end.", census.paused_renders),
        ("switches", "Pauses and drains that operators made.", census.switches),
        ("barred_hosts", "Hosts that get no work.", census.barred_hosts),
        ("parked_messages", "Queue messages nobody could read.", census.parked_messages),
        ("redis_used_bytes", "Memory Redis uses.", census.redis_used_bytes),
        ("redis_max_bytes", "Memory Redis may use; 0: no limit.", census.redis_max_bytes),
        ("redis_evicted_keys", "Keys Redis threw away: must stay 0.", census.redis_evicted_keys),
    ):
        yield GaugeMetricFamily(f"pianofarm_{name}", text, value=value)


def _of_workers(workers: list[WorkerInfo], speedometer: Speedometer) -> Iterator[Metric]:
    family = GaugeMetricFamily("pianofarm_workers", "Workers that are alive.", labels=["device", "state"])
    for kind in DEVICES:
        mine = [worker for worker in workers if device_kind(worker.device) == kind]
        busy = sum(bool(worker.key) for worker in mine)
        family.add_metric([kind, "busy"], busy)
        family.add_metric([kind, "idle"], len(mine) - busy)
    yield family
    yield GaugeMetricFamily(
        "pianofarm_worker_audio_seconds_per_second",
        "Audio an average worker makes in a second, from the last renders; `assumed_speed` before any.",
        value=speedometer.speed(),
    )
    speeds = GaugeMetricFamily(
        "pianofarm_device_audio_seconds_per_second", "The same by kind of device.", labels=["device"]
    )
    for kind, speed in speedometer.speeds().items():
        speeds.add_metric([kind], speed)
    yield speeds


def run(settings: Settings, ending: threading.Event) -> None:
    """Serve until `ending` is set; outlives outages of Redis.

    Raises:
        OSError: the port cannot be had.
    """
    ledger, taker = Ledger.from_settings(settings), CensusTaker.from_settings(settings)
    tracer = Tracer(settings.otlp_endpoint) if settings.otlp_endpoint else None
    follower = Follower(ledger, taker, settings, tracer.add if tracer else None)
    follower.metrics.registry.register(FarmCollector(ledger, taker, follower.speedometer))
    server, thread = start_http_server(
        settings.exporter_port, addr=settings.metrics_bind, registry=follower.metrics.registry
    )
    log.info("exporting", address=f"{settings.metrics_bind}:{settings.exporter_port}")
    pause_s = 0.0
    while not ending.wait(pause_s):
        try:
            follower.step()
            if tracer is not None:
                tracer.flush()
            pause_s = 0.0
        except PianofarmError as error:
            follower.metrics.read_errors.inc()
            pause_s = min(MAX_PAUSE_S, 2 * pause_s or 0.5)
            log.warning("events not read", error=str(error), retry_in_s=pause_s)
    server.shutdown()
    server.server_close()
    thread.join()
    taker.close()
    ledger.close()


def main() -> int:
    """Run until SIGTERM or SIGINT; exit code 2 for unusable settings, 3 for a port that is taken."""
    try:
        settings = Settings.load()
    except PianofarmError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure(settings)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    try:
        run(settings, ending)
    except OSError as error:
        sys.stderr.write(
            f"cannot serve on {settings.metrics_bind}:{settings.exporter_port} ({error}): set PIANOFARM_EXPORTER_PORT\n"
        )
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
