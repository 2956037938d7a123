"""What Celery's remote control may ask of a worker: to show itself. Nothing here stops, starts or changes anything.

A broadcast has no sender: whoever may publish to Celery's channel, which Flower must to ask its questions, may publish any
command. So workers know those only that change nothing. What the farm itself does to workers goes through signals of the system
and the ledger.
"""

from __future__ import annotations

from celery.worker.control import Panel

#: `enable_events` is the one that does something: the worker says what it does from then on, which is what Flower shows.
#: Not `hello`: whoever greets says which tasks are revoked. Not `objgraph` and `memdump`: they write a file, and the log.
KEPT = frozenset(
    {
        "active",
        "active_queues",
        "clock",
        "conf",
        "enable_events",
        "ping",
        "query_task",
        "registered",
        "report",
        "reserved",
        "revoked",
        "scheduled",
        "stats",
    }
)


def close() -> None:
    """Have workers of this process forget every other command, those of later versions of Celery too."""
    for name in set(Panel.data) - KEPT:
        Panel.data.pop(name)
        Panel.meta.pop(name, None)
