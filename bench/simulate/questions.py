"""The questions put to the simulation, each answered by a function that returns plain rows. Prints and draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simpy

from bench.simulate.autoscaler import Scaling, autoscale
from bench.simulate.farm import Farm, Faults, Render
from bench.simulate.pieces import closed_loop, lengths_s, poisson, submit_all
from bench.simulate.service import Service

HOUR_S = 3600.0

#: Everyday mishaps: one attempt in 2,000 kills its worker, one in 500 meets a network error.
EVERYDAY = Faults(crash_per_render=1 / 2000, transient_per_render=1 / 500)


@dataclass(frozen=True)
class BatchRun:
    """A batch worked off by a pool of one size."""

    workers: int
    took_s: float
    failed: int
    wasted: float  #: part of the workers' working time that came to nothing
    paid_h: float


def run_batch(
    service: Service,
    audio_s: Sequence[float],
    workers: int,
    *,
    cold_start_s: float = 0.0,
    faults: Faults = EVERYDAY,
    seed: int = 1,
) -> BatchRun:
    """All pieces at once, a pool that is kept at its size."""
    env = simpy.Environment()
    farm = Farm(env, service, faults, seed, cold_start_s)
    everything = submit_all(farm, audio_s)
    env.process(autoscale(farm, Scaling(workers, workers)))
    env.run(until=everything)
    happened = farm.ledger
    worked_s = happened.busy_s + happened.wasted_s
    failed = sum(render.failed for render in happened.finished)
    return BatchRun(workers, env.now, failed, happened.wasted_s / worked_s, farm.paid_s() / HOUR_S)


def workers_for(
    service: Service, n_pieces: int, within_s: float, *, cold_start_s: float, faults: Faults = EVERYDAY, seed: int = 1
) -> list[BatchRun]:
    """The smallest pool that works off so many pieces in time, by bisection; every run of it, by pool size."""
    audio_s = lengths_s(n_pieces, seed)
    work_s = sum(audio_s) / service.speed + n_pieces * service.overhead_s
    runs: dict[int, BatchRun] = {}

    def in_time(workers: int) -> bool:
        if workers not in runs:
            runs[workers] = run_batch(service, audio_s, workers, cold_start_s=cold_start_s, faults=faults, seed=seed)
        return runs[workers].took_s <= within_s

    low = int(work_s / within_s)  # fewer cannot do it, even without a gap
    high = max(1, low + 1)
    while not in_time(high):
        low, high = high, high + max(1, high // 16)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if in_time(middle) else (middle, high)
    return [runs[workers] for workers in sorted(runs)]


@dataclass(frozen=True)
class LatencyRun:
    """Requests and how long they took, in seconds."""

    concurrent: int
    workers: int
    per_s: float  #: requests answered a second
    audio_s_per_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    errors: float  #: part of the requests that failed
    littles_law: float  #: requests in the system over throughput times mean latency: 1 if the books are right


def at_concurrency(
    service: Service,
    concurrent: int,
    workers: int,
    *,
    piece_s: float | None = None,
    faults: Faults = EVERYDAY,
    seed: int = 1,
) -> LatencyRun:
    """Load testers that keep so many requests open against a fixed pool; the first fifth of the time does not count.

    Args:
        service: measured times.
        concurrent: requests open at any time.
        workers: the pool.
        piece_s: length of every piece; None: the benchmark's mixture.
        faults: what goes wrong.
        seed: of everything random.
    """
    mean_s = piece_s or float(np.mean(lengths_s(10_000, seed)))
    # Long enough for 40 rounds of every client, or 4,000 requests.
    n_requests = max(40 * concurrent, 4000)
    until_s = n_requests * (service.overhead_s + mean_s / service.speed) / workers
    env = simpy.Environment()
    farm = Farm(env, service, faults, seed)
    mixture = iter(lengths_s(4 * n_requests + 4 * concurrent, seed))
    for _ in range(workers):
        farm.add_worker()
    sent = closed_loop(farm, concurrent, until_s, lambda: piece_s or next(mixture))
    env.run(until=until_s)
    settled = [render for render in farm.ledger.finished if render.finished and render.finished >= until_s / 5]
    latency_s = np.array([render.latency_s for render in settled if not render.failed])
    window_s = until_s * 4 / 5
    in_system = sum(_overlap(render, until_s / 5, until_s) for render in sent) / window_s
    p50, p95, p99 = np.percentile(latency_s, [50, 95, 99])
    per_s = len(settled) / window_s
    return LatencyRun(
        concurrent,
        workers,
        per_s,
        sum(render.audio_s for render in settled) / window_s,
        float(p50),
        float(p95),
        float(p99),
        sum(render.failed for render in settled) / len(settled),
        in_system / (per_s * float(np.mean([render.latency_s for render in settled]))),
    )


@dataclass(frozen=True)
class LoadRun:
    """Requests at random moments against a fixed pool."""

    load: float  #: part of the pool's capacity that is asked for
    per_s: float
    p50_s: float
    p95_s: float
    p99_s: float


def at_load(
    service: Service,
    load: float,
    workers: int,
    *,
    piece_s: float | None = None,
    n_requests: int = 20_000,
    seed: int = 1,
) -> LoadRun:
    """Requests that come by themselves (Poisson), as from many people who do not know of each other; no faults."""
    audio_s = [piece_s] * n_requests if piece_s else lengths_s(n_requests, seed)
    per_s = load * workers / (service.overhead_s + float(np.mean(audio_s)) / service.speed)
    env = simpy.Environment()
    farm = Farm(env, service, Faults(), seed)
    for _ in range(workers):
        farm.add_worker()
    sent: list[Render] = []
    env.run(until=env.process(poisson(farm, audio_s, per_s, seed, into=sent)))
    env.run(until=simpy.AllOf(env, [render.done for render in sent]))
    latency_s = [render.latency_s for render in sent[n_requests // 10 :]]
    p50, p95, p99 = np.percentile(latency_s, [50, 95, 99])
    return LoadRun(load, per_s, float(p50), float(p95), float(p99))


def _overlap(render: Render, begin_s: float, end_s: float) -> float:
    """How long a render was in the system within a window."""
    left_s = render.finished if render.finished is not None else end_s
    return max(0.0, min(left_s, end_s) - max(render.submitted, begin_s))


@dataclass(frozen=True)
class ScaleRun:
    """A day of waves of work under an autoscaler."""

    cold_start_s: float
    standby: int
    p50_wait_s: float
    p95_wait_s: float
    paid_h: float
    busy_h: float
    #: time, workers alive, renders waiting
    over_time: list[tuple[float, int, int]]

    @property
    def idle(self) -> float:
        """Part of the paid time without work."""
        return 1.0 - self.busy_h / self.paid_h


def scale_up_lag(
    service: Service,
    *,
    cold_start_s: float,
    standby: int,
    most: int = 64,
    waves: int = 3,
    faults: Faults = EVERYDAY,
    seed: int = 1,
) -> ScaleRun:
    """Quiet hours with a trickle, then half an hour that needs half of the largest pool, several times over."""
    env = simpy.Environment()
    farm = Farm(env, service, faults, seed, cold_start_s)
    pieces = lengths_s(1_000_000 // 16, seed)
    mean_work_s = service.overhead_s + float(np.mean(pieces)) / service.speed
    quiet_per_s, busy_per_s = 0.2 / mean_work_s, 0.5 * most / mean_work_s
    quiet_s, busy_s = HOUR_S, HOUR_S / 2
    sent: list[Render] = []
    at = iter(pieces * 64)

    def day() -> simpy.events.ProcessGenerator:
        for wave in range(waves):
            for span_s, per_s in ((quiet_s, quiet_per_s), (busy_s, busy_per_s)):
                n_pieces = int(span_s * per_s)
                audio_s = [next(at) for _ in range(n_pieces)]
                yield env.process(poisson(farm, audio_s, per_s, seed + 17 * wave + int(per_s > quiet_per_s), into=sent))

    arriving = env.process(day())
    env.process(autoscale(farm, Scaling(standby, most)))
    env.run(until=arriving)
    env.run(until=simpy.AllOf(env, [render.done for render in sent]))
    waits_s = np.array([render.wait_s for render in sent])
    p50, p95 = np.percentile(waits_s, [50, 95])
    return ScaleRun(
        cold_start_s,
        standby,
        float(p50),
        float(p95),
        farm.paid_s() / HOUR_S,
        farm.ledger.busy_s / HOUR_S,
        farm.ledger.workers_over_time,
    )


@dataclass(frozen=True)
class SpotRun:
    """A batch on machines that are taken away."""

    life_h: float
    notice: bool
    took_s: float
    wasted: float
    preemptions: int
    failed: int
    paid_h: float


def on_spot(
    service: Service, n_pieces: int, workers: int, *, life_h: float, notice: bool, cold_start_s: float, seed: int = 1
) -> SpotRun:
    """A batch on a pool of spot machines; each lives `life_h` on average and is replaced at the next poll."""
    faults = Faults(
        EVERYDAY.crash_per_render, EVERYDAY.transient_per_render, spot_life_s=life_h * HOUR_S, spot_notice=notice
    )
    env = simpy.Environment()
    farm = Farm(env, service, faults, seed, cold_start_s)
    everything = submit_all(farm, lengths_s(n_pieces, seed))
    env.process(autoscale(farm, Scaling(workers, workers)))
    env.run(until=everything)
    happened = farm.ledger
    return SpotRun(
        life_h,
        notice,
        env.now,
        happened.wasted_s / (happened.busy_s + happened.wasted_s),
        happened.preemptions,
        sum(render.failed for render in happened.finished),
        farm.paid_s() / HOUR_S,
    )
