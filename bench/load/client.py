"""One client that submits many jobs, in a process of its own; prints its pace and its memory as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.simulate.real_farm import midi_piece
from pianofarm import Farm, Submission
from pianofarm_common.settings import Settings


def submissions(data: bytes, n_jobs: int) -> Iterator[Submission]:
    """The same music every time, another render every time: its lead-in differs."""
    for number in range(n_jobs):
        yield Submission(data, name=f"piece {number}", options={"warm_up_s": number / 1e5})


def main(n_jobs: int, model: Path) -> None:
    """Submit and say how it went."""
    data = midi_piece(0.5, 60)
    with Farm(Settings.load()) as farm:
        farm.submit_many(submissions(data, 10), model=str(model), priority="bulk", batch=None)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        batch = farm.submit_many(
            (item for number, item in enumerate(submissions(data, n_jobs + 10)) if number >= 10),
            model=str(model),
            priority="bulk",
        )
        took_s = time.perf_counter() - began
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "batch": batch.id,
                "per_s": n_jobs / took_s,
                "bytes_a_job": 1024 * (peak_kb - before_kb) / n_jobs,
                "rejected": len(batch.rejected),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
