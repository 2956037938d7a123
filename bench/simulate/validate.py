"""`python -m bench.simulate.validate`: the same batch through a real farm of 1, 2 and 4 workers and through the simulation.

Service times are measured in the run with one worker; the runs with more are predicted from them and from the true moments of
submission, and compared. That is fair as long as the workers share nothing that is full: the simulation knows no cores. So the
paced piano sleeps, slowly enough that encoding, storing and the servers leave the cores mostly idle with four workers too, and the
cores in use are measured and shown beside each run. `--piano default` uses the model of the package, the diverse pieces of the
benchmark, and at most as many workers as cores: it measures the service times that the simulation is fed with.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simpy
from numpy.typing import NDArray

from bench.pieces import catalogue
from bench.simulate import report
from bench.simulate.farm import Farm, Faults, Steps
from bench.simulate.pieces import lengths_s
from bench.simulate.real_farm import midi_piece, running_farm
from bench.simulate.service import SERVICE_TIMES, Service, save_service
from pianofarm.submission import Submission
from pianofarm_common.ledger import JobStatus
from pianofarm_common.renders import State

#: Simulated this often; the real run is one draw of many.
N_SEEDS = 20

#: More than this part of the cores in use before anything is started: somebody else is at work, and the comparison says nothing.
BUSY_BEFORE = 0.15

#: More than this part of the cores in use during a run, above what was in use before: its workers waited for cores, which the
#: simulation does not know.
BUSY_DURING = 0.6


@dataclass(frozen=True)
class Measured:
    """A batch that went through a real farm; times in seconds from the first submission."""

    workers: int
    audio_s: list[float]
    submitted: list[float]
    started: list[float]
    finished: list[float]
    cores: float  #: cores in use meanwhile, whoever used them

    @classmethod
    def of(cls, workers: int, jobs: Sequence[JobStatus], cores: float) -> Measured:
        """From the ledger, in the order of submission.

        Raises:
            RuntimeError: a job is not done.
        """
        if lost := [job for job in jobs if job.state is not State.DONE or job.render is None]:
            raise RuntimeError(f"{len(lost)} jobs are not done; the first: {lost[0].state} {lost[0].error}")
        renders = [job.render for job in jobs if job.render is not None]
        zero = min(render.submitted_at for render in renders)
        return cls(
            workers,
            [render.spec.audio_s for render in renders],
            [render.submitted_at - zero for render in renders],
            [render.started_at - zero for render in renders],
            [render.finished_at - zero for render in renders],
            cores,
        )

    @property
    def took_s(self) -> float:
        """Until the last one was done."""
        return max(self.finished)

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """From submission to commit."""
        latency_s: NDArray[np.float64] = np.array(self.finished) - np.array(self.submitted)
        return latency_s

    def cycles(self) -> tuple[list[float], list[float]]:
        """Audio and service time of each render of a single worker: from its claim to the next claim, the last to its commit."""
        order = np.argsort(self.started)
        starts = np.array(self.started)[order]
        ends = np.append(starts[1:], max(self.finished))
        return [self.audio_s[number] for number in order], list(ends - starts)


def real_run(n_workers: int, pieces: Sequence[bytes], *, pace: float | None) -> Measured:
    """Start a farm in a folder of its own, send the pieces through it, stop it."""
    with running_farm(n_workers, pace=pace) as client:
        # The first render of each worker loads its model: that is not the service time we want.
        client.submit_many([midi_piece(5.0, 90 + number) for number in range(2 * n_workers)]).wait(timeout_s=600)
        began, used_before_s = time.monotonic(), _core_seconds()
        batch = client.submit_many(
            [Submission(data, name=str(number)) for number, data in enumerate(pieces)], priority="standard"
        )
        batch.wait(timeout_s=3600)
        cores = (_core_seconds() - used_before_s) / (time.monotonic() - began)
        return Measured.of(n_workers, batch.statuses(), cores)


def _core_seconds() -> float:
    """Time that all cores of this machine were in use since it started, summed over them."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _cores_in_use(for_s: float) -> float:
    began = _core_seconds()
    time.sleep(for_s)
    return (_core_seconds() - began) / for_s


def simulated_runs(service: Service, real: Measured) -> list[tuple[float, float, float]]:
    """Makespan, mean and 95th percentile of the latency, a triple for each seed."""
    found = []
    for seed in range(N_SEEDS):
        env = simpy.Environment()
        farm = Farm(env, service, Faults(), seed)
        for _ in range(real.workers):
            farm.add_worker()
        env.run(until=env.process(_replay(farm, real)))
        latency_s = [render.latency_s for render in farm.ledger.finished]
        found.append((env.now, float(np.mean(latency_s)), float(np.percentile(latency_s, 95))))
    return found


def _replay(farm: Farm, real: Measured) -> Steps:
    """The same pieces at the same moments."""
    sent = []
    for when, audio_s in sorted(zip(real.submitted, real.audio_s, strict=True), key=lambda pair: pair[0]):
        yield farm.env.timeout(max(0.0, when - farm.env.now))
        sent.append(farm.submit(audio_s, "standard").done)
    yield simpy.AllOf(farm.env, sent)


def main() -> int:
    """Measure, simulate, compare; exit code 1 if a prediction is off by more than the tolerance."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate.validate", description=__doc__)
    parser.add_argument("--piano", choices=["paced", "default"], default="paced")
    parser.add_argument("--workers", type=int, nargs="+", help="default: 1 2 4 (paced), 1 and the cores (default)")
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--scale", type=float, default=0.1, help="lengths of 10 s to 5 min, times this (paced only)")
    parser.add_argument("--pace", type=float, default=5.0, help="audio seconds a second of the paced piano")
    parser.add_argument("--tolerance", type=float, default=0.10, help="largest relative error of a makespan")
    parser.add_argument("--save", metavar="PROFILE", help="put the measured service times under this name")
    parser.add_argument("--out", type=Path, default=Path(".state/simulate"))
    parser.add_argument("--publish", action="store_true", help="put the table in docs/ as well")
    arguments = parser.parse_args()

    n_cores = len(os.sched_getaffinity(0))
    is_paced = arguments.piano == "paced"
    counts = arguments.workers or ([1, 2, 4] if is_paced else sorted({1, n_cores}))
    pieces = _paced_pieces(arguments) if is_paced else [data for _, data in catalogue(arguments.pieces)]
    before = _cores_in_use(5.0)
    pace = arguments.pace if is_paced else None
    runs = [real_run(count, pieces, pace=pace) for count in [1, *(count for count in counts if count != 1)]]
    source = (
        f"{arguments.piano} piano, {arguments.pieces} pieces, {_machine()}, {before:.1f} of them in use before, "
        f"{time.strftime('%Y-%m-%d')}"
    )
    service = Service.fitted(*runs[0].cycles(), source=source)
    rows, worst = [], 0.0
    for run in runs:
        measured = (run.took_s, float(np.mean(run.latency_s)), float(np.percentile(run.latency_s, 95)))
        seeds = simulated_runs(service, run)
        predicted = [float(np.mean(column)) for column in zip(*seeds, strict=True)]
        errors = [guess / value - 1.0 for guess, value in zip(predicted, measured, strict=True)]
        spread = float(np.std([took_s for took_s, *_ in seeds])) / predicted[0]
        worst = max(worst, abs(errors[0]))
        pairs = [part for pair in zip(measured, predicted, strict=True) for part in pair]
        rows.append((run.workers, run.cores, *pairs, f"{spread:.1%}", *(f"{error:+.1%}" for error in errors)))
    heads = ("workers", "cores in use", "took s", "simulated", "mean s", "simulated", "P95 s", "simulated")
    heads += ("spread", "took", "mean", "P95")
    text = (
        f"{source}; service time {service.overhead_s:.3f} s + audio / {service.speed:.1f}, "
        f"scatter {service.cv:.3f}, measured with one worker.\n\n{report.table(heads, rows)}\n"
    )
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "validation.md").write_text(text)
    if before > BUSY_BEFORE * n_cores:
        sys.stderr.write(f"{before:.1f} of {n_cores} cores were in use before: measure again on a quiet machine\n")
    crowded = [str(run.workers) for run in runs if is_paced and run.cores - before > BUSY_DURING * n_cores]
    if crowded:
        sys.stderr.write(f"workers waited for cores in the runs with {', '.join(crowded)}: a smaller --pace helps\n")
    if arguments.publish:
        report.publish("validation", text)
    if arguments.save:
        save_service(arguments.save, service)
        print(f"service times saved as {arguments.save} in {SERVICE_TIMES}")
    if worst > arguments.tolerance:
        sys.stderr.write(f"a predicted makespan is off by {worst:.0%}, more than {arguments.tolerance:.0%}\n")
        return 1
    return 0


def _paced_pieces(arguments: argparse.Namespace) -> list[bytes]:
    lengths = lengths_s(arguments.pieces, 1)
    return [midi_piece(length * arguments.scale, number) for number, length in enumerate(lengths)]


def _machine() -> str:
    with open("/proc/cpuinfo") as info:
        names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
