"""The sweeper: `python -m pianofarm_worker.sweeper` publishes again what nobody works on. Any number may run."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable

from celery import Celery
from prometheus_client import PlatformCollector, ProcessCollector, start_http_server

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Ledger
from pianofarm_common.ledger.callbacks import Callbacks
from pianofarm_common.logs import configure, get_logger
from pianofarm_common.metrics import ERRORS, SweeperMetrics, one_of
from pianofarm_common.queue import backlog, make_app, prepare, publish, publish_bundles
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore
from pianofarm_worker.retention import Retention
from pianofarm_worker.webhooks import Teller

#: Longest wait between two sweeps while a service does not answer.
MAX_PAUSE_S = 5.0

#: A lease has surely lapsed this long after its end.
LAPSED_S = 0.005

log = get_logger(__name__)


def sweep_once(ledger: Ledger, app: Celery, metrics: SweeperMetrics | None = None) -> int:
    """One sweep; returns how many renders were published.

    Raises:
        ServiceUnavailable: Redis does not answer. What was found and not published is found again after `lost_message_s`.
    """
    n_published = 0
    for publication in ledger.sweep(backlog(app)):
        if len(publication.keys) == 1:
            publish_bundles(app, publication.priority, [publication.keys])
        else:
            publish(app, publication.priority, publication.keys, publication.spread)
        n_published += len(publication.keys)
        if metrics is not None:
            metrics.published.labels("turn" if publication.is_turn else "again").inc(len(publication.keys))
    return n_published


def next_pause_s(interval_s: float, spent_s: float, lapse_in_s: float) -> float:
    """How long to wait for the next sweep: until the interval is over, or just until a lease lapses that nobody renews any more.

    Workers renew long before: a lease that is so near to its end is that of one who died, and somebody may wait for its render.
    A lease that should have lapsed and was left, because after an outage all get some grace, hurries nobody.
    """
    # One that takes longer than its interval must not follow itself without end.
    rest_s = max(interval_s / 2, interval_s - spent_s)
    # What lapsed while this sweep was under way may have come too late for it.
    return min(rest_s, max(0.0, lapse_in_s) + LAPSED_S) if lapse_in_s > -spent_s else rest_s


def run(settings: Settings, ending: threading.Event) -> None:
    """Sweep every `sweep_interval_s`, and when a lease lapses, until `ending` is set; outlives outages of Redis."""
    ledger, app = Ledger.from_settings(settings), make_app(settings)
    prepare(app)
    metrics = SweeperMetrics()
    stop_serving = _serve(settings, metrics)
    if settings.retention_s > 0:
        retention = Retention(ledger, S3BlobStore.from_settings(settings), settings.retention_s, metrics)
        threading.Thread(target=retention.run, args=[ending], name="retention", daemon=True).start()
    if settings.webhook_keys.get_secret_value():
        callbacks = Callbacks.from_settings(settings)
        teller = Teller(ledger, callbacks, settings)
        threading.Thread(target=teller.run, args=[ending], name="webhooks", daemon=True).start()
    pause_s = settings.sweep_interval_s
    log.info("sweeping", interval_s=settings.sweep_interval_s)
    while not ending.wait(pause_s):
        began = time.monotonic()
        try:
            with metrics.sweep_s.time():
                n_published = sweep_once(ledger, app, metrics)
            lapse_in_s = ledger.lapse_in_s()
        except PianofarmError as error:
            metrics.errors.labels(one_of(type(error).__name__, ERRORS)).inc()
            pause_s = min(max(MAX_PAUSE_S, settings.sweep_interval_s), 2 * pause_s)
            log.warning("sweep failed", error=str(error), retry_in_s=pause_s)
            continue
        pause_s = next_pause_s(settings.sweep_interval_s, time.monotonic() - began, lapse_in_s)
        metrics.sweeps.inc()
        metrics.last_sweep.set_to_current_time()
        if n_published:
            log.info("published", renders=n_published)
    stop_serving()
    app.close()
    ledger.close()


def _serve(settings: Settings, metrics: SweeperMetrics) -> Callable[[], None]:
    """Serve the metrics if there is a port for them; a sweeper never fails for that. Returns what ends it."""
    if not settings.sweeper_metrics_port:
        return lambda: None
    PlatformCollector(registry=metrics.registry)
    ProcessCollector(registry=metrics.registry)
    address = f"{settings.metrics_bind}:{settings.sweeper_metrics_port}"
    try:
        server, thread = start_http_server(
            settings.sweeper_metrics_port, addr=settings.metrics_bind, registry=metrics.registry
        )
    except OSError as error:
        log.warning("sweeper metrics not served", address=address, error=str(error))
        return lambda: None
    log.info("metrics served", address=address)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def main() -> int:
    """Run until SIGTERM or SIGINT; exit code 2 for unusable settings."""
    try:
        settings = Settings.load()
    except PianofarmError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure(settings)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    run(settings, ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
