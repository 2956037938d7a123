"""Fixtures of the fault tests, and what is kept of them.

`PIANOFARM_FAULTS=long` plays every fault at every point and publishes the counts, `PIANOFARM_FAULTS_SEED` plays others.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from campaign import SEED
from farms import FaultyFarm
from published import conditions, save_scenarios

#: Scenarios that were played, by name.
_played: dict[str, dict] = {}

_conditions = conditions() | {"seed": SEED} if os.environ.get("PIANOFARM_FAULTS") == "long" else {}


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path_factory.mktemp("faults"), seed=SEED)
    yield farm
    farm.close()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    properties = dict(report.user_properties)
    if report.when == "call" and "name" in properties and _conditions:
        outcome = {"outcome": report.outcome, "took_s": round(report.duration, 1)}
        name = properties.pop("name")
        _played[name] = properties | outcome


def pytest_sessionfinish() -> None:
    if _played:
        save_scenarios(_played, _conditions)
