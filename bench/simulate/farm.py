"""The simulated farm: queues by class, workers that start cold, crash and are taken away, leases, retries. No scaling here."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from bench.simulate.service import Service

#: Most urgent first.
CLASSES = ("interactive", "standard", "bulk")

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how the farm finds out; the defaults are those of `pianofarm_common.settings`."""

    crash_per_render: float = 0.0  #: probability that an attempt kills its worker process
    transient_per_render: float = 0.0  #: probability that an attempt ends with an error that another try mends
    spot_life_s: float | None = None  #: mean time until a worker's machine is taken away; None: never
    spot_notice: bool = True  #: the worker hears of it in time to hand its render back
    lease_s: float = 15.0
    sweep_s: float = 1.0
    restart_s: float = 8.0  #: a crashed process is back after this long
    backoff_s: float = 1.0
    max_attempts: int = 3


@dataclass(eq=False)
class Render:
    """One piece of work and what became of it. Times in simulated seconds."""

    number: int
    priority: str
    audio_s: float
    submitted: float
    done: simpy.Event
    attempts: int = 0
    started: float | None = None  #: of the attempt that succeeded
    finished: float | None = None
    failed: bool = False

    @property
    def latency_s(self) -> float:
        """From submission to the end."""
        assert self.finished is not None
        return self.finished - self.submitted

    @property
    def wait_s(self) -> float:
        """From submission to the start of the attempt that succeeded."""
        assert self.started is not None
        return self.started - self.submitted


@dataclass(eq=False)
class Worker:
    """A worker process; it is paid for from `born` to `died`, its cold start included."""

    number: int
    born: float
    ready: float | None = None
    died: float | None = None
    draining: bool = False
    render: Render | None = None
    waiting: simpy.Event | None = None
    process: simpy.Process | None = None


@dataclass
class Ledger:
    """What happened, summed up."""

    busy_s: float = 0.0  #: worker time that ended in a finished render
    wasted_s: float = 0.0  #: worker time of attempts that came to nothing
    crashes: int = 0
    preemptions: int = 0
    retries: int = 0
    in_system_s: float = 0.0  #: integral over time of the renders submitted and not finished
    finished: list[Render] = field(default_factory=list)
    workers_over_time: list[tuple[float, int, int]] = field(
        default_factory=list
    )  #: time, workers alive, renders waiting


class Farm:
    """The farm. `submit` renders, `add_worker`, and let the environment run."""

    def __init__(
        self, env: simpy.Environment, service: Service, faults: Faults, seed: int, cold_start_s: float = 0.0
    ) -> None:
        self.env = env
        self.service = service
        self.faults = faults
        self.cold_start_s = cold_start_s
        self.queues: dict[str, deque[Render]] = {name: deque() for name in CLASSES}
        self.workers: list[Worker] = []
        self.dead: list[Worker] = []
        self.ledger = Ledger()
        self.n_submitted = 0
        self.n_away = 0  #: neither in a queue nor with a worker: a lease that must lapse, or backing off
        self.queued_audio_s = 0.0
        self.leased_audio_s = 0.0
        self._idle: deque[Worker] = deque()
        self._rng = np.random.default_rng(seed)
        self._n_workers_ever = 0
        self._in_system, self._last_change = 0, 0.0

    # -- renders -------------------------------------------------------------------------------------------------------

    def submit(self, audio_s: float, priority: str = "bulk") -> Render:
        """A new render, handed to a worker at once if one is idle."""
        render = Render(self.n_submitted, priority, audio_s, self.env.now, self.env.event())
        self.n_submitted += 1
        self._count_in_system(+1)
        self._enqueue(render)
        return render

    @property
    def n_waiting(self) -> int:
        """Renders in the queues."""
        return sum(map(len, self.queues.values()))

    @property
    def n_running(self) -> int:
        """Renders in the hands of workers."""
        return sum(worker.render is not None for worker in self.workers)

    def _enqueue(self, render: Render) -> None:
        while self._idle:
            worker = self._idle.popleft()
            if worker.waiting is not None:
                waiting, worker.waiting = worker.waiting, None
                self._hand_over(render, worker)
                waiting.succeed(render)
                return
        self.queues[render.priority].append(render)
        self.queued_audio_s += render.audio_s

    def _hand_over(self, render: Render, worker: Worker) -> None:
        """The claim: the attempt counts from here on."""
        worker.render = render
        render.attempts += 1
        render.started = self.env.now
        self.leased_audio_s += render.audio_s

    def _take(self, worker: Worker) -> Render | None:
        for queue in self.queues.values():
            if queue:
                render = queue.popleft()
                self.queued_audio_s -= render.audio_s
                self._hand_over(render, worker)
                return render
        return None

    def _let_go(self, worker: Worker) -> None:
        assert worker.render is not None
        self.leased_audio_s -= worker.render.audio_s
        worker.render = None

    def _finish(self, render: Render, *, failed: bool) -> None:
        render.finished, render.failed = self.env.now, failed
        self.ledger.finished.append(render)
        self._count_in_system(-1)
        render.done.succeed(render)

    def _count_in_system(self, change: int) -> None:
        self.ledger.in_system_s += self._in_system * (self.env.now - self._last_change)
        self._in_system += change
        self._last_change = self.env.now

    def _again(self, render: Render, after_s: float) -> None:
        """Back in the queue after a while; meanwhile nobody has it."""
        self.n_away += 1
        self.ledger.retries += 1
        self.env.process(self._away(render, after_s))

    def _away(self, render: Render, after_s: float) -> Steps:
        yield self.env.timeout(after_s)
        self.n_away -= 1
        self._enqueue(render)

    # -- workers -------------------------------------------------------------------------------------------------------

    def add_worker(self) -> Worker:
        """Start a worker; it takes work after its cold start."""
        worker = Worker(self._n_workers_ever, self.env.now)
        self._n_workers_ever += 1
        self.workers.append(worker)
        worker.process = self.env.process(self._life(worker))
        if self.faults.spot_life_s is not None:
            self.env.process(self._take_away(worker, self._rng.exponential(self.faults.spot_life_s)))
        return worker

    def drain(self, worker: Worker) -> None:
        """Ask a worker to leave: at once if it is idle, else after its render."""
        worker.draining = True
        if worker.waiting is not None:
            waiting, worker.waiting = worker.waiting, None
            waiting.succeed(None)

    def note(self) -> None:
        """Write down how many workers and waiting renders there are."""
        self.ledger.workers_over_time.append((self.env.now, len(self.workers), self.n_waiting))

    def paid_s(self) -> float:
        """Worker time paid for so far."""
        ended = sum((worker.died or 0.0) - worker.born for worker in self.dead)
        return ended + sum(self.env.now - worker.born for worker in self.workers)

    def _bury(self, worker: Worker) -> None:
        worker.died = self.env.now
        self.workers.remove(worker)
        self.dead.append(worker)

    def _take_away(self, worker: Worker, after_s: float) -> Steps:
        yield self.env.timeout(after_s)
        if worker.died is None and worker.process is not None:
            worker.process.interrupt("preempted")

    def _life(self, worker: Worker) -> Steps:
        try:
            if self.cold_start_s > 0:
                yield self.env.timeout(self.cold_start_s)
            worker.ready = self.env.now
            while not worker.draining:
                render = self._take(worker)
                if render is None:
                    worker.waiting = self.env.event()
                    self._idle.append(worker)
                    render = yield worker.waiting
                    if render is None:
                        break
                yield from self._attempt(worker, render)
        except simpy.Interrupt:
            self.ledger.preemptions += 1
            # Hands nothing over any more; what was handed over at this very moment is in `worker.render`.
            worker.waiting = None
            if worker.render is not None:
                self._abandon(worker)
        self._bury(worker)

    def _abandon(self, worker: Worker) -> None:
        """The machine is gone in the middle of a render: handed back on notice, else found when the lease lapses."""
        render = worker.render
        assert render is not None
        assert render.started is not None
        self._let_go(worker)
        self.ledger.wasted_s += self.env.now - render.started
        if self.faults.spot_notice:
            # Handed back: the attempt does not count.
            render.attempts -= 1
            self._again(render, self._rng.uniform(0, self.faults.sweep_s))
        else:
            self._lapse(render)

    def _lapse(self, render: Render) -> None:
        if render.attempts >= self.faults.max_attempts:
            self._finish(render, failed=True)
            return
        found_after_s = self.faults.lease_s + self._rng.uniform(0, self.faults.sweep_s)
        self._again(render, found_after_s)

    def _attempt(self, worker: Worker, render: Render) -> Steps:
        assert render.started is not None
        takes_s = self.service.draw(render.audio_s, self._rng)
        fate = self._rng.random()
        faults = self.faults
        if fate < faults.crash_per_render:
            yield self.env.timeout(takes_s * self._rng.random())
            self.ledger.crashes += 1
            self.ledger.wasted_s += self.env.now - render.started
            self._let_go(worker)
            self._lapse(render)
            yield self.env.timeout(faults.restart_s)
            return
        yield self.env.timeout(takes_s)
        self._let_go(worker)
        if fate < faults.crash_per_render + faults.transient_per_render:
            self.ledger.wasted_s += takes_s
            if render.attempts >= faults.max_attempts:
                self._finish(render, failed=True)
            else:
                wait_s = faults.backoff_s * 2 ** (render.attempts - 1) * self._rng.uniform(0.5, 1.0)
                self._again(render, wait_s + self._rng.uniform(0, faults.sweep_s))
            return
        self.ledger.busy_s += takes_s
        self._finish(render, failed=False)
