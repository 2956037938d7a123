"""Fixtures of the fault tests. `PIANOFARM_FAULTS=long` plays every fault at every point, `PIANOFARM_FAULTS_SEED` plays others."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from campaign import SEED, FaultyFarm


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path_factory.mktemp("faults"), seed=SEED)
    yield farm
    farm.close()
