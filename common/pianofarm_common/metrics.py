"""Every metric of the farm: its name, its labels, and what keeps the labels few. Measures nothing itself and reads no service.

Each set of metrics has a registry of its own, so that two of them never meet in one process by accident. A label value comes from
a list that is closed here (classes, states, error names), or from `Few`, which calls everything past the first N "other": a
submitter must not be able to grow the memory of the monitoring. docs/metrics.md explains each for operators.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pianofarm_common import errors
from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Refusal
from pianofarm_common.renders import PriorityClass, RenderResult, State

#: What a label says where the true value is not in its list.
OTHER = "other"

#: Models that get a label value of their own.
MAX_MODELS = 20

CLASSES = tuple(str(name) for name in PriorityClass)
DEVICES = ("cpu", "gpu", OTHER)
OUTCOMES = tuple(str(state) for state in State if state.final)
REFUSALS = tuple(str(reason) for reason in Refusal)

#: Seconds. A render of the fastest device takes some 20 ms, a long piece on a slow one minutes.
WORK_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

#: Seconds. Somebody who waits notices 0.1; bulk waits for hours.
WAIT_BUCKETS_S = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    45,
    60,
    120,
    300,
    900,
    3600,
    14_400,
    86_400,
)

#: Seconds of audio made in a second; below 1 is slower than real time.
SPEED_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 35, 50, 75, 100, 200, 400, 800, 1600)


def _error_names() -> Iterator[str]:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, PianofarmError):
            yield name


#: Class names of our errors; a bug's or a vendor's is "other".
ERRORS = (*_error_names(), "WorkerDied", "Stopping", OTHER)


def one_of(value: str, allowed: tuple[str, ...]) -> str:
    """The value if it is in the list, else "other"."""
    return value if value in allowed else OTHER


def device_kind(device: str) -> str:
    """Label of a worker's device such as "gpu:0": "cpu" or "gpu", "other" for what is neither."""
    return one_of(device.partition(":")[0], DEVICES)


class Few:
    """The first `most` values that came, each as itself; all later ones are "other". Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, value: str) -> str:
        """The label value for this value, at most 60 characters."""
        value = value[:60]
        with self._lock:
            if value not in self._seen and len(self._seen) < self._most:
                self._seen.add(value)
            return value if value in self._seen else OTHER


class RenderMetrics:
    """What finished renders look like: histograms that workers keep of their own, and the exporter of the whole farm."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self.audio_s = Counter(
            f"{prefix}_audio_seconds", "Audio made, seconds.", ["class", "device", "model"], registry=registry
        )
        self.render_s = Histogram(
            f"{prefix}_render_seconds",
            "Time to synthesize and check one render.",
            ["class", "device"],
            buckets=WORK_BUCKETS_S,
            registry=registry,
        )
        self.upload_s = Histogram(
            f"{prefix}_upload_seconds",
            "Time to store one render's audio and sidecar.",
            ["class"],
            buckets=WORK_BUCKETS_S,
            registry=registry,
        )
        self.queue_wait_s = Histogram(
            f"{prefix}_queue_wait_seconds",
            "Time from submission to the claim that succeeded.",
            ["class"],
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self.real_time_factor = Histogram(
            f"{prefix}_real_time_factor",
            "Seconds of audio made in a second of rendering.",
            ["device"],
            buckets=SPEED_BUCKETS,
            registry=registry,
        )
        self._model = Few(MAX_MODELS)

    def observe(self, result: RenderResult, priority: str, device: str) -> None:
        """Enter a finished render; `device` is the worker's, such as "gpu:0"."""
        name, kind = one_of(priority, CLASSES), device_kind(device)
        self.audio_s.labels(name, kind, self._model(result.spec.model_name)).inc(result.audio_s)
        self.render_s.labels(name, kind).observe(result.render_s)
        self.upload_s.labels(name).observe(result.upload_s)
        self.queue_wait_s.labels(name).observe(result.queue_s)
        if result.render_s > 0:
            self.real_time_factor.labels(kind).observe(result.real_time_factor)


class FarmMetrics:
    """What the exporter counts from the ledger's events, over all workers, living or dead."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.renders = RenderMetrics(self.registry, "pianofarm")
        self.jobs = Counter("pianofarm_jobs", "Jobs that ended.", ["class", "outcome"], registry=self.registry)
        self.cache_hits = Counter(
            "pianofarm_cache_hits",
            "Jobs that were done at once, their render being finished.",
            ["class"],
            registry=self.registry,
        )
        self.job_latency_s = Histogram(
            "pianofarm_job_latency_seconds",
            "Time from a job's submission to its end, cache hits included.",
            ["class"],
            buckets=WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self.retries = Counter(
            "pianofarm_retries",
            "Renders that went back to the queue after an attempt.",
            ["error"],
            registry=self.registry,
        )
        self.released = Counter(
            "pianofarm_releases", "Renders that a stopping worker handed back.", registry=self.registry
        )
        self.failures = Counter(
            "pianofarm_failures", "Renders given up, by their last error.", ["error"], registry=self.registry
        )
        self.worker_s = Counter(
            "pianofarm_worker_seconds",
            "Time that workers were alive, summed over them.",
            ["device"],
            registry=self.registry,
        )
        self.busy_s = Counter(
            "pianofarm_worker_busy_seconds",
            "The part of it that went into finished renders.",
            ["device"],
            registry=self.registry,
        )
        self.cost = Counter(
            "pianofarm_cost", "Worker time at its price, in the price's currency.", ["device"], registry=self.registry
        )
        self.read_errors = Counter(
            "pianofarm_exporter_errors", "Times the exporter could not read the ledger.", registry=self.registry
        )
        for name in CLASSES:
            self.cache_hits.labels(name)
            for outcome in OUTCOMES:
                self.jobs.labels(name, outcome)
        for error in ("WorkerDied", "ServiceUnavailable"):
            self.retries.labels(error)
            self.failures.labels(error)


class WorkerMetrics:
    """What only a worker process knows: its attempts, the leases it lost, its device."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.renders = RenderMetrics(self.registry, "pianofarm_worker")
        self.attempts = Counter(
            "pianofarm_worker_attempts",
            'Attempts that ended, by error; "" for success.',
            ["error"],
            registry=self.registry,
        )
        self.refusals = Counter(
            "pianofarm_worker_refused_claims",
            "Messages whose render was not to be had: duplicates and late cancellations.",
            ["reason"],
            registry=self.registry,
        )
        self.lease_losses = Counter(
            "pianofarm_worker_lease_losses", "Renders taken away while this worker was at them.", registry=self.registry
        )
        self.last_progress = Gauge(
            "pianofarm_worker_last_progress_timestamp_seconds",
            "When this worker last claimed or finished something, seconds since the epoch.",
            registry=self.registry,
        )
        for reason in REFUSALS:
            self.refusals.labels(reason)
        for error in ("", "ServiceUnavailable", "LeaseLost"):
            self.attempts.labels(error)

    def ended(self, error: BaseException | None) -> None:
        """Count an attempt that ended."""
        self.attempts.labels("" if error is None else one_of(type(error).__name__, ERRORS)).inc()
        if isinstance(error, errors.LeaseLost):
            self.lease_losses.inc()
        self.last_progress.set_to_current_time()


class SweeperMetrics:
    """What a sweeper did."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sweeps = Counter("pianofarm_sweeper_sweeps", "Sweeps that ended well.", registry=self.registry)
        self.errors = Counter(
            "pianofarm_sweeper_errors",
            "Sweeps and deletions that did not, by error.",
            ["error"],
            registry=self.registry,
        )
        self.sweep_s = Histogram(
            "pianofarm_sweeper_sweep_seconds",
            "Time of one sweep, publications included.",
            buckets=WORK_BUCKETS_S,
            registry=self.registry,
        )
        self.published = Counter(
            "pianofarm_sweeper_published_renders",
            "Renders published: again, or because it was their owner's turn.",
            ["why"],
            registry=self.registry,
        )
        self.deleted = Counter(
            "pianofarm_sweeper_deleted_objects",
            "Objects that were older than the retention.",
            ["kind"],
            registry=self.registry,
        )
        self.last_sweep = Gauge(
            "pianofarm_sweeper_last_sweep_timestamp_seconds",
            "When this sweeper last swept, seconds since the epoch.",
            registry=self.registry,
        )
        for why in ("again", "turn"):
            self.published.labels(why)
        for kind in ("renders", "midi"):
            self.deleted.labels(kind)


class ClientMetrics:
    """What a producer sees of its submissions; registered where the producer's own metrics are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.submitted = Counter(
            "pianofarm_client_jobs",
            "Jobs submitted; cached: their render was finished already.",
            ["class", "cached"],
            registry=registry,
        )
        self.rejected = Counter(
            "pianofarm_client_rejected", "Sources that could not be rendered, by error.", ["error"], registry=registry
        )
        self.failed = Counter(
            "pianofarm_client_submit_errors", "Calls that ended with an error, by error.", ["error"], registry=registry
        )
        self.submit_s = Histogram(
            "pianofarm_client_submit_seconds",
            "Time of one call: reading MIDI, uploading it, entering the jobs.",
            buckets=WORK_BUCKETS_S,
            registry=registry,
        )
