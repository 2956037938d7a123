"""Clocks that jump by an hour: Redis', by which leases are timed, and those of the workers, by which nothing is."""

import os
import random
from collections.abc import Callable, Iterator

import pytest
from campaign import CLOCK_TROUBLES, SEED, play
from clock import library
from farms import FaultyFarm
from faulty_farm import POINTS
from tests.conftest import unavailable

LONG = os.environ.get("PIANOFARM_FAULTS") == "long"

SHORT = [("rendering", trouble) for trouble in CLOCK_TROUBLES]


@pytest.fixture(scope="module")
def farm_with_clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    if library() is None:
        unavailable("no libfaketime for this machine: the clocks of Redis and of the workers cannot be set")
    farm = FaultyFarm(tmp_path_factory.mktemp("clocks"), seed=SEED, clocks=True)
    yield farm
    farm.close()


def cases() -> list[tuple[str, str]]:
    chosen = [(point, trouble) for trouble in CLOCK_TROUBLES for point in POINTS] if LONG else SHORT
    return random.Random(SEED).sample(chosen, len(chosen))


@pytest.mark.parametrize(("point", "trouble"), cases())
def test_a_clock_that_jumps_by_an_hour_loses_nothing_and_stops_nothing(
    farm_with_clocks: FaultyFarm, point: str, trouble: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("name", f"{trouble} @ {point}")
    problems = play(farm_with_clocks, point, trouble, outage_s=0.0)
    for name, number in farm_with_clocks.counts.items():
        record_property(name, number)
    assert problems == []
