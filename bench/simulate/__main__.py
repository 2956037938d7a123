"""`python -m bench.simulate`: answer the questions with the measured service times; print tables, draw plots."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from bench.simulate import questions, report
from bench.simulate.farm import Faults
from bench.simulate.service import SERVICE_TIMES, Service, load_services

#: Seconds from the decision to add a worker to its first render: a process on a machine that runs; a pod whose image is there;
#: a new machine that pulls the image as well.
COLD_STARTS_S = (8.0, 30.0, 120.0, 300.0)


def main() -> int:
    """Run everything that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("--services", type=Path, default=SERVICE_TIMES, help="measured service times")
    parser.add_argument("--profile", action="append", help="only this profile of them; repeatable")
    parser.add_argument("--out", type=Path, default=Path(".state/simulate"), help="folder for the tables and plots")
    parser.add_argument("--publish", action="store_true", help="put tables and plots in docs/ as well")
    parser.add_argument("--pieces", type=int, default=100_000)
    parser.add_argument("--cold-start", type=float, default=90.0, help="seconds, for the first and the last question")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    services = load_services(arguments.services)
    chosen = arguments.profile or list(services)
    if missing := [name for name in chosen if name not in services]:
        sys.stderr.write(f"no profile {', '.join(missing)} in {arguments.services} (there: {', '.join(services)})\n")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = [_inputs({name: services[name] for name in chosen})]
    for name in chosen:
        parts += _answers(name, services[name], arguments)
    text = "\n\n".join(parts) + "\n"
    print(text)
    (arguments.out / "simulation.md").write_text(text)
    if arguments.publish:
        report.publish("simulation", _with_pictures(text, chosen))
        for picture in arguments.out.glob("*.png"):
            shutil.copy(picture, report.PAGE.parent / "pictures" / f"simulate-{picture.name}")
    print(f"tables and plots in {arguments.out}")
    return 0


def _with_pictures(text: str, profiles: list[str]) -> str:
    """The text as a part of a page, one level of headings lower, with its plots."""
    body = "\n".join(f"#{line}" if line.startswith("##") else line for line in text.splitlines()[1:])
    kinds = {"pool": "time over pool size", "concurrency": "latency", "load": "latency over load", "scaling": "waves"}
    pictures = [
        f"![{about}, profile {name}](pictures/simulate-{name}-{kind}.png)"
        for name in profiles
        for kind, about in kinds.items()
    ]
    return "\n\n".join([body.strip(), *pictures])


def _inputs(services: dict[str, Service]) -> str:
    rows = [(name, s.speed, s.overhead_s, s.cv, s.source) for name, s in services.items()]
    heads = ("profile", "audio s / s", "overhead s", "scatter", "measured")
    return f"# Simulated farm\n\nService times of one worker:\n\n{report.table(heads, rows)}"


def _answers(name: str, service: Service, arguments: argparse.Namespace) -> list[str]:
    seed, cold_start_s, out = arguments.seed, arguments.cold_start, arguments.out
    return [
        f"## Profile {name}",
        _pool(service, arguments.pieces, cold_start_s, seed, out / f"{name}-pool.png"),
        _concurrency(service, seed, out / f"{name}-concurrency.png"),
        _load(service, seed, out / f"{name}-load.png"),
        _lag(service, seed, out / f"{name}-scaling.png"),
        _spot(service, cold_start_s, seed),
    ]


def _pool(service: Service, n_pieces: int, cold_start_s: float, seed: int, picture: Path) -> str:
    within_s = questions.HOUR_S
    runs = {
        "no faults, warm": questions.workers_for(
            service, n_pieces, within_s, cold_start_s=0.0, faults=Faults(), seed=seed
        ),
        "everyday faults, cold": questions.workers_for(
            service, n_pieces, within_s, cold_start_s=cold_start_s, seed=seed
        ),
    }
    report.plot_pool(runs, within_s, picture)
    smallest = {kind: next(run for run in found if run.took_s <= within_s) for kind, found in runs.items()}
    heads = ("", "workers", "minutes", "failed", "work repeated", "worker hours")
    rows = [
        (kind, run.workers, run.took_s / 60, run.failed, f"{run.wasted:.2%}", run.paid_h)
        for kind, run in smallest.items()
    ]
    return f"""### How many workers for {n_pieces:,} pieces in an hour?

Pieces of 10 s to 5 min; the smallest pool that is in time. Cold: no worker renders in the first {cold_start_s:g} s.

{report.table(heads, rows)}"""


def _concurrency(service: Service, seed: int, picture: Path) -> str:
    runs = [
        questions.at_concurrency(service, concurrent, 16, piece_s=10.0, seed=seed)
        for concurrent in (1, 8, 16, 32, 100, 400, 1600)
    ]
    report.plot_concurrency(runs, picture)
    mixed = questions.at_concurrency(service, 1600, 16, seed=seed)
    heads = ("open requests", "piece", "requests / s", "audio s / s", "P50 s", "P95 s", "P99 s", "errors", "N / (X W)")
    rows = [
        (
            run.concurrent,
            piece,
            run.per_s,
            run.audio_s_per_s,
            run.p50_s,
            run.p95_s,
            run.p99_s,
            f"{run.errors:.3%}",
            f"{run.littles_law:.2f}",
        )
        for piece, run in [*(("10 s", run) for run in runs), ("mixed", mixed)]
    ]
    return f"""### What latency at 1,600 concurrent requests on 16 workers?

Closed loop: each client sends its next request when it has its answer. The last column is Little's law, requests in the system over
throughput times latency: 1, but for renders that lie across the ends of the window.

{report.table(heads, rows)}"""


def _load(service: Service, seed: int, picture: Path) -> str:
    runs = [questions.at_load(service, load, 16, piece_s=10.0, seed=seed) for load in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)]
    report.plot_load(runs, 16, picture)
    rows = [(f"{run.load:.0%}", run.per_s, run.p50_s, run.p95_s, run.p99_s) for run in runs]
    heads = ("load", "requests / s", "P50 s", "P95 s", "P99 s")
    return f"""The same pool with requests of 10 s of audio at random moments, which is how people come:

{report.table(heads, rows)}"""


def _lag(service: Service, seed: int, picture: Path) -> str:
    runs = [
        questions.scale_up_lag(service, cold_start_s=lag, standby=standby, seed=seed)
        for standby in (0, 4)
        for lag in COLD_STARTS_S
    ]
    report.plot_scaling(runs[: len(COLD_STARTS_S)], picture)
    heads = ("cold start", "standby", "P50 wait s", "P95 wait s", "worker hours", "of them idle")
    rows = [
        (f"{run.cold_start_s:g} s", run.standby, run.p50_wait_s, run.p95_wait_s, run.paid_h, f"{run.idle:.0%}")
        for run in runs
    ]
    return f"""### What does scale-up lag cost?

Three waves of half an hour that keep 32 workers busy, an hour with a trickle before each; at most 64 workers. The autoscaler asks
for as many as work off the waiting and the leased audio within 60 s, so a wait of about that is what was ordered.

{report.table(heads, rows)}"""


def _spot(service: Service, cold_start_s: float, seed: int) -> str:
    runs = [
        questions.on_spot(service, 20_000, 32, life_h=life_h, notice=notice, cold_start_s=cold_start_s, seed=seed)
        for notice in (True, False)
        for life_h in (0.1, 0.5, 2.0)
    ]
    heads = ("mean life", "notice", "taken away", "minutes", "worker hours", "work repeated", "failed")
    rows = [
        (
            f"{run.life_h:g} h",
            "yes" if run.notice else "no",
            run.preemptions,
            run.took_s / 60,
            run.paid_h,
            f"{run.wasted:.2%}",
            run.failed,
        )
        for run in runs
    ]
    return f"""### What do spot machines cost in repeated work?

20,000 pieces on 32 workers; one that is taken away is replaced after the autoscaler's poll and a cold start of {cold_start_s:g} s.

{report.table(heads, rows)}"""


if __name__ == "__main__":
    sys.exit(main())
