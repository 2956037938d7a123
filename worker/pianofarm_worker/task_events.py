"""Celery's task events, sent together by a step of the worker's parent process. What the farm says of its renders is the ledger's.

Celery sends every event by itself, three a message, at once. Measured with tasks that do nothing, that is more than half of what a
message costs the parent, and the parent is most of what it costs at all.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer.events import Events

#: An event is sent so much later, at most, with all that came meanwhile. Its own time is in it.
SENT_EVERY_S = 0.1

#: So many are sent before the time is over.
SENT_AT_ONCE = 200


def send_together(app: Celery) -> None:
    """Have the workers of an app send their task events together."""
    app.steps["consumer"].add(SendTogether)


class SendTogether(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """Replaces what Celery does when an event is waiting: send it in the next turn of its loop."""

    requires = (Events,)

    def start(self, consumer: Any) -> None:
        """Begin with each connection to the broker."""
        dispatcher, hub = consumer.event_dispatcher, consumer.hub
        if hub is None:
            return
        due = 0.0

        def soon() -> None:
            nonlocal due
            now = time.monotonic()
            if now >= due:
                due = now + SENT_EVERY_S
                hub.call_later(SENT_EVERY_S, dispatcher.flush)

        dispatcher.buffer_limit = SENT_AT_ONCE
        dispatcher.on_send_buffered = soon

    def stop(self, consumer: Any) -> None:
        """Send what waits while there is a connection."""
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()
