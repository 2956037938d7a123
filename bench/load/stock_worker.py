"""Bare Celery as it comes, late acknowledgement, task events, a task that does nothing: what the farm is held against."""

from __future__ import annotations

import os

from celery import Celery

from bench.load import BROKER_VARIABLE

app = Celery("stock", broker=os.environ[BROKER_VARIABLE], set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_send_task_events=True)


@app.task(name="stock.nothing")  # type: ignore[untyped-decorator]  # celery has no types
def nothing(number: int) -> None:
    """Nothing."""
