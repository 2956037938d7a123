"""The sweeper: `python -m pianofarm_worker.sweeper` publishes again what nobody works on. Any number may run."""

from __future__ import annotations

import signal
import sys
import threading

from celery import Celery

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Ledger
from pianofarm_common.logs import configure, get_logger
from pianofarm_common.queue import backlog, make_app, publish, publish_bundles
from pianofarm_common.settings import Settings

#: Longest wait between two sweeps while a service does not answer.
MAX_PAUSE_S = 5.0

log = get_logger(__name__)


def sweep_once(ledger: Ledger, app: Celery) -> int:
    """One sweep; returns how many renders were published again.

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
    return n_published


def run(settings: Settings, ending: threading.Event) -> None:
    """Sweep every `sweep_interval_s` until `ending` is set; outlives outages of Redis."""
    ledger, app = Ledger.from_settings(settings), make_app(settings)
    pause_s = settings.sweep_interval_s
    log.info("sweeping", interval_s=settings.sweep_interval_s)
    while not ending.wait(pause_s):
        try:
            n_published = sweep_once(ledger, app)
        except PianofarmError as error:
            pause_s = min(max(MAX_PAUSE_S, settings.sweep_interval_s), 2 * pause_s)
            log.warning("sweep failed", error=str(error), retry_in_s=pause_s)
            continue
        pause_s = settings.sweep_interval_s
        if n_published:
            log.info("published again", renders=n_published)
    app.close()
    ledger.close()


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
