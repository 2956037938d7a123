"""What is asked of the farm under load, a function each: pace, latency, recovery, uploads. Answers are plain values for JSON."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.farm import LoadFarm, Samples, cost, environment, python_path, rate
from bench.load.servers import RedisServer, S3Server
from bench.spread import percentile, spread
from pianofarm_common.queue import backlog
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.storage import S3BlobStore

Answers = dict[str, Any]

#: Processes that render.
N_WORKERS = 2

BULK, STANDARD, INTERACTIVE = PriorityClass.BULK, PriorityClass.STANDARD, PriorityClass.INTERACTIVE


@dataclass(frozen=True)
class Form:
    """How much is asked."""

    name: str
    n_submitted: int  #: jobs from one client
    n_drained: dict[int, int]  #: renders by size of the bundle
    n_stock: int
    n_waiting: int  #: bulk renders in the way of interactive ones
    n_probes: int
    n_kills: int
    n_stored: int
    storage: bool = True


def stock(form: Form, folder: Path, redis: RedisServer) -> Answers:
    """Bare Celery, tasks that do nothing."""
    with LoadFarm(folder, redis) as farm:
        from celery import Celery

        with Celery("stock", broker=redis.url, set_as_current=False) as app:
            with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=500):
                for number in range(form.n_stock):
                    app.send_task("stock.nothing", args=[number], producer=producer, ignore_result=True)
        before = (0, *redis.spent())
        farm.start_stock_workers(N_WORKERS)
        # From before the start, so that a handful drained at once has a pace, too; `rate` leaves the start out of longer ones.
        samples: Samples = [(time.monotonic(), 0)]

        def n_done() -> int:
            return form.n_stock - int(redis.client.llen("celery")) - int(redis.client.hlen("unacked"))

        _until(lambda: n_done() > 0.1 * form.n_stock)
        begun = (n_done(), *redis.spent())
        while samples[-1][1] < form.n_stock:
            samples.append((time.monotonic(), n_done()))
            time.sleep(0.02)
        return {"per_s": rate(samples), **cost(before, begun, (form.n_stock, *redis.spent()))}


def pace(form: Form, folder: Path, redis: RedisServer, bundle: int) -> Answers:
    """Renders that take no time, so many in a message, and made together."""
    n_renders = form.n_drained[bundle]
    with LoadFarm(folder, redis, bundle_max_renders=bundle) as farm:
        farm.start_sweeper()
        tickets = farm.submit(n_renders, BULK)
        batch = tickets[0].batch
        before = (0, *redis.spent())
        farm.start_workers(N_WORKERS, places=bundle)
        samples: Samples = [(time.monotonic(), 0)]

        def n_done() -> int:
            return farm.ledger.batch(batch).done

        _until(lambda: n_done() > 0.1 * n_renders)
        begun = (n_done(), *redis.spent())
        samples += farm.drained(batch, n_renders)
        spent = cost(before, begun, (n_renders, *redis.spent()))
        return {"renders": n_renders, "per_s": rate(samples), **spent}


def submission(form: Form, folder: Path, redis: RedisServer, s3: S3Server, bundle: int, *, drain: bool) -> Answers:
    """One client, many jobs; and all of them drained."""
    with LoadFarm(folder, redis, s3, bundle_max_renders=bundle) as farm:
        S3BlobStore.from_settings(farm.settings).ensure_bucket()
        model = farm.model(0.0)
        before = redis.used_bytes()
        argv = [sys.executable, "-m", "bench.load.client", str(form.n_submitted), str(model.path)]
        env = {**os.environ, **environment(farm.settings), "PYTHONPATH": python_path()}
        said = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
        answers: Answers = json.loads(said.stdout)
        answers["redis_bytes_a_job"] = (redis.used_bytes() - before) / form.n_submitted
        answers["messages"] = sum(backlog(farm.app).values())
        batch = answers.pop("batch")
        if drain:
            farm.start_sweeper()
            # Their options differ, so that none of them could be made together.
            farm.start_workers(N_WORKERS)
            began = time.monotonic()
            samples = farm.drained(batch, form.n_submitted)
            answers["drained_per_s"] = rate(samples)
            answers["drained_s"] = samples[-1][0] - began
            answers["lost"] = form.n_submitted - farm.ledger.batch(batch).done
        return answers


def latency(form: Form, folder: Path, redis: RedisServer, *, dedicated: bool, own_ms: float, bulk_ms: float) -> Answers:
    """An interactive job, submitted while many bulk renders wait, from before its submission to its end as an event tells it."""
    with LoadFarm(folder, redis) as farm:
        farm.start_sweeper()
        farm.submit(form.n_waiting, BULK, bulk_ms)
        if dedicated:
            farm.start_workers(1, [str(BULK)])
            farm.start_workers(1, [str(INTERACTIVE)])
        else:
            farm.start_workers(N_WORKERS)
        took_ms = []
        for _ in range(form.n_probes):
            time.sleep(random.uniform(0.02, 0.06))
            began = time.perf_counter()
            (ticket,) = farm.submit(1, INTERACTIVE, own_ms)
            _done(farm, ticket.batch)
            took_ms.append(1000 * (time.perf_counter() - began))
        left = farm.ledger.depth(BULK).queued_renders
        return {
            "own_ms": own_ms,
            "bulk_ms": bulk_ms,
            "p50_ms": percentile(took_ms, 50),
            "p95_ms": percentile(took_ms, 95),
            "bulk_left": left,
        }


def _done(farm: LoadFarm, batch: str) -> None:
    last, end = "0-0", time.monotonic() + 60
    while time.monotonic() < end:
        for event in farm.ledger.events(batch, last, block_ms=5000):
            last = event.id
            if event.kind == State.DONE:
                return
    raise RuntimeError("an interactive render is not done after a minute")


def recovery(form: Form, folder: Path, redis: RedisServer) -> Answers:
    """Processes that render are killed; how long until somebody else has their renders."""
    n_workers, n_busy = 6, 3
    settings = {"lease_s": 2.0, "heartbeat_s": 0.4, "sweep_interval_s": 0.5, "max_attempts": 50}
    with LoadFarm(folder, redis, **settings) as farm:
        farm.start_sweeper()
        farm.start_workers(n_workers)
        waiting: dict[str, float] = {}
        live: set[str] = set()
        took_s: list[float] = []
        n_killed, next_kill = 0, time.monotonic() + 1.0
        end = time.monotonic() + 120 + 5 * form.n_kills
        while len(took_s) < form.n_kills and time.monotonic() < end:
            known = farm.ledger.renders(sorted(live))
            for key, render in known.items():
                if key in waiting and render.attempts > 1 and render.state in (State.RUNNING, State.DONE):
                    took_s.append(time.monotonic() - waiting.pop(key))
                elif key in waiting and render.state.final:
                    # It was done a moment before: nothing was to be recovered.
                    del waiting[key]
                    n_killed -= 1
                if render.state.final:
                    live.discard(key)
            if len(live - waiting.keys()) < n_busy:
                live.update(ticket.key for ticket in farm.submit(1, STANDARD, 800.0))
            running = [
                r for key, r in known.items() if r.state is State.RUNNING and r.attempts == 1 and key not in waiting
            ]
            if n_killed < form.n_kills and time.monotonic() > next_kill and running:
                victim = random.choice(running)
                with suppress(ProcessLookupError):
                    os.kill(int(victim.worker.rpartition(":")[2]), signal.SIGKILL)
                    waiting[victim.key] = time.monotonic()
                    n_killed += 1
                next_kill = time.monotonic() + 0.6
            time.sleep(0.01)
        if len(took_s) < n_killed:
            raise RuntimeError(f"{n_killed - len(took_s)} renders of killed workers did not come back")
        bound_s = farm.settings.lease_s + farm.settings.sweep_interval_s + 0.5
        return {"kills": n_killed, "bound_s": bound_s, **spread(took_s)}


def uploads(form: Form, folder: Path, redis: RedisServer, s3: S3Server, store: str, render_ms: float) -> Answers:
    """One worker, renders of half a megabyte that take so long, with this kind of store."""
    from bench.load.client import submissions
    from bench.simulate.real_farm import midi_piece
    from pianofarm import Farm

    with LoadFarm(folder, redis, s3) as farm:
        S3BlobStore.from_settings(farm.settings).ensure_bucket()
        with Farm(farm.settings) as client:
            model = str(farm.model(render_ms).path)
            batch = client.submit_many(submissions(midi_piece(10.0, 60), form.n_stored), model=model)
        farm.start_sweeper()
        began = time.monotonic()
        farm.start_workers(1, store=store)
        return {"per_s": rate([(began, 0), *farm.drained(batch.id, form.n_stored)])}


def _until(true: Callable[[], bool], timeout_s: float = 90.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("nothing begins")
        time.sleep(0.02)
