"""How a worker is put together: settings -> services -> task. `pianofarm_worker.app` does it once; no work is done here.

The parent process opens no connection but the broker's and imports no array library; every child makes its own services
after the fork.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import Celery, signals

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Publication, WorkerInfo
from pianofarm_common.logs import configure, get_logger
from pianofarm_common.precision import Precision
from pianofarm_common.queue import RENDER_TASK, make_app, publish
from pianofarm_common.registry import Registry
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore
from pianofarm_common.storage.s3 import prepare_s3
from pianofarm_worker import children, deaths, panel, task_events
from pianofarm_worker.delivery import Delivery
from pianofarm_worker.devices import cores, device_name
from pianofarm_worker.metering import MeteredLedger, MeteredMaker, serve_metrics
from pianofarm_worker.pulse import Pulse
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.synth.piano import Piano, load, multiply_on_one_thread
from pianofarm_worker.tasks import Bench, work_through
from pianofarm_worker.workshop import Workshop

#: Part of the soft shutdown that a render may still use; the rest is for handing it back.
GRACE_SHARE = 0.7

log = get_logger(__name__)


@dataclass
class _Child:
    """What a child process of the pool holds; empty in the parent."""

    node: str = ""
    bench: Bench | None = None


def compose(settings: Settings, load_piano: Callable[..., Piano] | None = None) -> Celery:
    """A Celery app that renders.

    Args:
        settings: of this worker.
        load_piano: makes a piano of a model, see `Shelf`; None: `synth.piano.load` on the backend of the settings. Tests of the
            farm give one that needs no array library.
    """
    app = make_app(settings)
    task_events.send_together(app)
    panel.close()
    children.install(app, _prepare)
    child, sign = _Child(), StopSign()
    make_piano = load_piano or partial(
        load,
        backend=settings.backend,
        n_threads=settings.threads_per_worker or len(cores()),
        batch_size=settings.batch_size or None,
    )

    def setup_logging(**_: Any) -> None:
        configure(settings)

    def remember_name(sender: str, **_: Any) -> None:
        child.node = sender
        deaths.listen(settings, sender)

    def open_bench(**_: Any) -> None:
        child.bench = _open_bench(app, settings, sign, child.node, make_piano)

    def close_bench(**_: Any) -> None:
        if child.bench is not None:
            _close_bench(child.bench, settings.soft_shutdown_s)

    def stop_soon(**_: Any) -> None:
        sign.put_up(settings.soft_shutdown_s * GRACE_SHARE)

    for signal, handler in (
        (signals.setup_logging, setup_logging),
        (signals.celeryd_init, remember_name),
        (signals.worker_process_init, open_bench),
        (signals.worker_process_shutdown, close_bench),
        (signals.worker_shutting_down, stop_soon),
    ):
        signal.connect(handler, weak=False)

    @app.task(name=RENDER_TASK)  # type: ignore[untyped-decorator]  # celery has no types
    def render(message: object) -> None:
        """Make the renders of a message."""
        if child.bench is None:
            open_bench()
        assert child.bench is not None  # noqa: S101
        try:
            work_through(child.bench, message)
        except Exception:
            # What is claimed runs again when its lease lapses. Celery must not see it: a MemoryError would end the whole worker.
            log.exception("message dropped")

    return app


def _prepare() -> None:
    """What a child would do for its services or its first model, done once, before the fork."""
    prepare_s3()
    multiply_on_one_thread()


def _open_bench(app: Celery, settings: Settings, sign: StopSign, node: str, load_piano: Callable[..., Piano]) -> Bench:
    """Services of a child process, its pulse started and the default model on its way."""
    metrics = serve_metrics(settings, device_name())
    ledger = MeteredLedger.watched_by(metrics, settings)
    ledger.on_admitted = partial(_publish, app)
    store = S3BlobStore.from_settings(settings)
    host = platform.node()
    me = WorkerInfo(
        name=f"{node or host}:{os.getpid()}",
        host=host,
        pid=os.getpid(),
        device=device_name(),
        backend=settings.backend,
        started_at=time.time(),
    )
    pulse = Pulse(ledger, settings, me, sign)
    pulse.start()
    shelf = Shelf(store, settings.state_dir, load_piano, Registry.from_settings(settings))
    # Not in this thread: the pool kills a child that is not ready within seconds, and TensorFlow takes as long.
    threading.Thread(target=_warm, args=(shelf, settings.model, settings.precision), name="warm", daemon=True).start()
    workshop = Workshop(settings, store, shelf, worker=me.name)
    workshop.reader.start()
    maker = MeteredMaker(workshop, metrics, me.device, ledger.budgets)
    return Bench(app, ledger, pulse, sign, maker, Delivery(), expect=workshop.expect)


def _publish(app: Celery, admitted: Publication) -> None:
    """Publish what a claim of this worker made room for; what the broker does not take is published by the sweeper."""
    try:
        publish(app, admitted.priority, admitted.keys, admitted.spread)
    except PianofarmError as error:
        log.warning("not passed on", error=str(error))


def _close_bench(bench: Bench, patience_s: float) -> None:
    """Wait for what is being stored, hand back what is not stored by then, and say goodbye."""
    if bench.delivery is not None:
        for hold in bench.delivery.wait(patience_s):
            log.info("render handed back", render=hold.claim.key)
            with contextlib.suppress(PianofarmError):
                bench.ledger.release(hold.claim.key, hold.claim.token)
    bench.pulse.stop()


def _warm(shelf: Shelf, model: str, precision: Precision) -> None:
    try:
        shelf.warm(model, precision)
    except PianofarmError as error:
        log.warning("default model not loaded", model=model, error=str(error))
