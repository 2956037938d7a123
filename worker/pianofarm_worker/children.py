"""The parent of a worker's children: takes a message only when one is ready for it, sees at once when one is dead, forks lightly.

Adds to Celery's pool what it lacks where children are killed; its own children, messages and restarts are Celery's. No render here.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker import state

#: A child whose pipe is closed is looked for again after this long, so many times. The pool itself looks every 5 s.
LOOK_AGAIN_S = 0.02
MAX_LOOKS = 250


class Children(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """Part of a worker's consumer, started with each connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """Change what looks into the queues, and what is done when a child ends; another pool than that of forks stays as it is."""
        pool: Any = getattr(c.pool, "_pool", None)
        if hasattr(pool, "_all_inqueues"):
            qos = c.task_consumer.channel.qos
            qos.can_consume = _one_for_each_that_is_ready(pool, qos.can_consume)
        if hasattr(pool, "_event_process_exit"):
            pool._event_process_exit = _until_it_is_buried(pool, type(pool)._event_process_exit)  # noqa: SLF001


def _one_for_each_that_is_ready(pool: Any, may_consume: Callable[[], bool]) -> Callable[[], bool]:
    """Asked before every look into the queues: no more messages in hand than there are children that have opened their services.

    Celery counts children that ought to be. The parent of one that was killed took the next message at once, and kept it until the
    new child was up, while other workers were idle: half a second on a quiet machine, and often it was the dead child's render.
    """

    def can_consume() -> bool:
        # What the pool writes messages into: there from a child's sign that it is up until its end is seen.
        return len(state.reserved_requests) < len(pool._all_inqueues) and may_consume()  # noqa: SLF001

    return can_consume


def _until_it_is_buried(pool: Any, process_exit: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any], None]:
    """Called when the pipe is closed by which a child is watched: the pool is looked after until that child is out of it.

    A killed process closes its pipes before the system lets its parent bury it. Celery looks once, finds the process as good as
    alive, watches it no more and comes back after up to 5 s (celery issue 9588): that was so after half of all kills.
    """

    def look(hub: Any, process: Any, n_looks: int) -> None:
        if process in pool._pool and n_looks < MAX_LOOKS:  # noqa: SLF001
            pool.maintain_pool()
            hub.call_later(LOOK_AGAIN_S, look, hub, process, n_looks + 1)

    def on_exit(hub: Any, process: Any) -> None:
        process_exit(pool, hub, process)
        look(hub, process, 0)

    return on_exit


def install(app: Celery, preparations: Callable[[], object]) -> None:
    """Have the workers of this app look after their children, and prepare before their first fork.

    Args:
        app: of a worker.
        preparations: what each child would otherwise do alone; must open no connection and start no thread.
    """
    app.steps["consumer"].add(Children)
    prepared: list[bool] = []

    def prepare(**_: Any) -> None:
        if prepared:
            return
        prepared.append(True)
        preparations()
        with contextlib.suppress(ImportError):
            # Every child has the system end it with its parent, for which the pool loads a parser of C: 60 ms.
            importlib.import_module("cffi.cparser")
        # The pool collects garbage before each fork, 80 ms with all that is imported here; what is frozen is passed over.
        gc.collect()
        gc.freeze()

    signals.worker_before_create_process.connect(prepare, weak=False)
