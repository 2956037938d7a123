"""A farm for the load test: its settings, its processes, and what is asked of its ledger. Measures nothing."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from bench.load import BROKER_VARIABLE, PLACES_VARIABLE, STORE_VARIABLE
from bench.load.servers import RedisServer, S3Server, Started
from pianofarm_common.ledger import JobRequest, JobTicket, Ledger, new_id
from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE, ModelInfo, find_model
from pianofarm_common.queue import CLASSES, make_app, publish_tickets
from pianofarm_common.renders import PriorityClass, RenderSpec
from pianofarm_common.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]

#: Seconds until done, renders done.
Samples = list[tuple[float, int]]

#: Renders done, seconds of processor time and commands of Redis.
Reading = tuple[int, float, int]


class LoadFarm:
    """Workers and sweepers on one Redis, which is empty at the beginning."""

    def __init__(self, folder: Path, redis: RedisServer, s3: S3Server | None = None, **settings: object) -> None:
        self.folder, self.redis = folder, redis
        folder.mkdir(parents=True, exist_ok=True)
        redis.client.flushall()
        given: dict[str, object] = {
            "state_dir": folder / "state",
            "redis_url": SecretStr(redis.url),
            "s3_endpoint": s3.endpoint if s3 else "http://127.0.0.1:1",
            "s3_access_key": SecretStr(S3Server.access_key),
            "s3_secret_key": SecretStr(S3Server.secret_key),
            # Lines of logs cost the same here as there, and there they are few.
            "log_level": "WARNING",
        }
        self.settings = Settings.model_validate(given | settings)
        self.ledger, self.app = Ledger.from_settings(self.settings), make_app(self.settings)
        self.workers: list[Started] = []
        self.processes: list[Started] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.workers + self.processes:
            process.kill()
        self.app.close()
        self.ledger.close()

    # -- processes ----------------------------------------------------------------------------------------------------

    def start_workers(self, n_workers: int, classes: Sequence[str] = CLASSES, store: str = "", places: int = 1) -> None:
        """Workers of one process each, as the farm starts them, and wait until they are ready.

        Args:
            n_workers: how many.
            classes: which they serve.
            store: see `STORE_VARIABLE`.
            places: how many renders they make at once.
        """
        argv = [sys.executable, "-m", "celery", "--app=bench.load.stub_worker", "--quiet", "worker", "--pool=prefork"]
        argv += ["--concurrency=1", f"--queues={','.join(classes)}", "--without-gossip", "--without-mingle"]
        env = environment(self.settings) | {"PYTHONPATH": python_path(), STORE_VARIABLE: store}
        env[PLACES_VARIABLE] = str(places)
        known, first = len(self.ledger.workers()), len(self.workers)
        for number in range(first, first + n_workers):
            log = self.folder / f"worker{number}.log"
            self.workers.append(Started([*argv, f"--hostname=worker{number}@%h"], log, env))
        self.workers[-1].wait_for(lambda: len(self.ledger.workers()) >= known + n_workers, "workers")

    def start_stock_workers(self, n_workers: int) -> None:
        """The same number of processes of bare Celery."""
        argv = [sys.executable, "-m", "celery", "--app=bench.load.stock_worker", "--quiet", "worker", "--pool=prefork"]
        argv += ["--concurrency=1"]
        env = {"PYTHONPATH": python_path(), BROKER_VARIABLE: self.redis.url}
        for number in range(n_workers):
            log = self.folder / f"stock{number}.log"
            self.workers.append(Started([*argv, f"--hostname=stock{number}@%h"], log, env))

    def start_sweeper(self) -> None:
        """One sweeper."""
        argv = [sys.executable, "-m", "pianofarm_worker.sweeper"]
        env = environment(self.settings) | {"PYTHONPATH": python_path()}
        self.processes.append(Started(argv, self.folder / "sweeper.log", env))

    # -- renders ------------------------------------------------------------------------------------------------------

    def model(self, wait_ms: float) -> ModelInfo:
        """A model whose renders take so long."""
        folder = self.settings.state_dir / "models" / f"wait-{wait_ms:g}"
        if not folder.exists():
            folder.mkdir(parents=True)
            config = {"name": f"wait {wait_ms:g} ms", "architecture": "stub", "sample_rate_hz": 24_000, "channels": 1}
            config |= {"n_pianos": 1, "default_piano": 0, "max_polyphony": None, "licence": "Apache-2.0"}
            (folder / CONFIG_FILE).write_text(json.dumps(config))
            (folder / WEIGHTS_FILE).write_bytes(f"no weights {wait_ms}".encode())
        return find_model(str(folder), self.settings.state_dir)

    def submit(
        self, n_jobs: int, priority: PriorityClass, wait_ms: float = 0.0, audio_s: float = 0.5
    ) -> list[JobTicket]:
        """Jobs for renders that nobody asked for before, all of one batch, entered and published."""
        model, batch = self.model(wait_ms), new_id()
        requests = [
            JobRequest(
                spec=RenderSpec(
                    performance_sha256=hashlib.sha256(f"{batch} {number}".encode()).hexdigest(),
                    model_digest=model.digest,
                    model_name=model.name,
                    audio_s=audio_s,
                ),
                batch=batch,
                priority=priority,
            )
            for number in range(n_jobs)
        ]
        tickets = self.ledger.submit_many(requests)
        publish_tickets(self.app, tickets)
        return tickets

    def drained(self, batch: str, n_jobs: int, at: Callable[[int], None] | None = None) -> Samples:
        """Wait until a batch is done; how many renders were done when.

        Raises:
            RuntimeError: nothing moves any more.
        """
        samples: Samples = []
        n_done, moved = 0, time.monotonic()
        while n_done < n_jobs:
            before, n_done = n_done, self.ledger.batch(batch).done
            now = time.monotonic()
            samples.append((now, n_done))
            if at is not None:
                at(n_done)
            if n_done > before:
                moved = now
            if now - moved > 60:
                raise RuntimeError(f"{n_done} of {n_jobs} renders are done and no more come (logs: {self.folder})")
            time.sleep(0.02)
        return samples


def rate(samples: Samples) -> float:
    """Renders per second between the first and the last tenth: neither start nor end count. All of it where that is too short."""
    n_all = samples[-1][1]
    inside = [(at, n) for at, n in samples if 0.1 * n_all <= n <= 0.9 * n_all]
    long_enough = bool(inside) and inside[0][1] < inside[-1][1]
    (began, n_began), (ended, n_ended) = (inside[0], inside[-1]) if long_enough else (samples[0], samples[-1])
    return (n_ended - n_began) / max(1e-3, ended - began)


def cost(before: Reading, begun: Reading, end: Reading) -> dict[str, float]:
    """What Redis spends on a render once they are being made. From before the start where that is too short, as in `rate`.

    Args:
        before: before the workers start.
        begun: some are made.
        end: all are made.
    """
    since = begun if end[0] - begun[0] > 0.5 * end[0] else before
    n_renders, cpu_s, n_commands = (now - then for now, then in zip(end, since, strict=True))
    return {"redis_us": 1e6 * cpu_s / n_renders, "redis_commands": n_commands / n_renders}


def python_path() -> str:
    """Where the processes find the project."""
    return ":".join([str(REPOSITORY), *filter(None, sys.path)])


def environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables."""
    values: dict[str, str] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        values[f"PIANOFARM_{name.upper()}"] = str(plain).lower() if isinstance(plain, bool) else str(plain)
    return values
