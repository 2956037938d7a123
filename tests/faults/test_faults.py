"""Every kind of fault at a named point of a render's life: nothing is lost, nothing counts twice, the bytes are the same.

Plain pytest plays a selection; `make faults` plays every fault at every point.
"""

import os
import random
import signal
from collections.abc import Callable

import pytest
from campaign import SEED, TROUBLES, play
from farms import FaultyFarm
from faulty_farm import POINTS
from services import wait_until

LONG = os.environ.get("PIANOFARM_FAULTS") == "long"

#: Length of outages: longer than a lease.
OUTAGE_S = float(os.environ.get("PIANOFARM_FAULTS_OUTAGE_S", "30" if LONG else "2.5"))

SHORT = [
    *((point, "kill") for point in POINTS),
    ("rendering", "kill worker"),
    ("stored", "stop"),
    ("stored", "stop, render cancelled"),
    ("rendering", "memory"),
    ("claimed", "memory"),
    ("stored", "partition"),
    ("rendered", "partition, render cancelled"),
    ("stored", "redis restart"),
    ("rendering", "redis gone"),
    ("stored", "redis disk full"),
    ("rendered", "redis failover"),
    ("rendering", "redis hangs up"),
    ("rendered", "storage 500"),
    ("rendered", "storage silent"),
    ("rendered", "torn upload"),
    ("claimed", "sweeper killed"),
]


def cases() -> list[tuple[str, str]]:
    chosen = [(point, trouble) for trouble in TROUBLES for point in POINTS] if LONG else SHORT
    return random.Random(SEED).sample(chosen, len(chosen))


@pytest.mark.parametrize(("point", "trouble"), cases())
def test_nothing_is_lost_and_nothing_counts_twice(
    farm: FaultyFarm, point: str, trouble: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("name", f"{trouble} @ {point}")
    record_property("outage_s", OUTAGE_S)
    problems = play(farm, point, trouble, outage_s=OUTAGE_S)
    for name, number in farm.counts.items():
        record_property(name, number)
    assert problems == []


def test_a_worker_that_is_told_to_stop_first_delivers_what_it_rendered(farm: FaultyFarm) -> None:
    farm.ready()
    with farm.scenario() as scenario:
        scenario.faults.arm("stored", "wait")
        job = scenario.submit()
        worker = farm.worker_of(scenario.taken("stored"))
        worker.process.signal(signal.SIGTERM)
        wait_until(lambda: "Warm shutdown" in worker.process.output(), "the worker stops", process=worker.process)
        scenario.faults.let_go("stored")
        worker.process.popen.wait(timeout=60)
        assert scenario.finish() == []
        assert scenario.happened("claimed", key=job.key) == 1
        assert scenario.happened("committed", key=job.key, outcome="ok") == 1
