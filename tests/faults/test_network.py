"""Redis, storage, three workers and a producer on hosts of their own, and a network between them that loses packets.

Where network namespaces are not allowed, the proxies of the other faults are the proof; in CI they must be allowed.
"""

import os
import random
from collections.abc import Callable, Iterator

import pytest
from campaign import NETWORK_TROUBLES, SEED, play
from farms import FarmOnHosts
from faulty_farm import POINTS
from network import Network, refusal
from tests.conftest import unavailable

LONG = os.environ.get("PIANOFARM_FAULTS") == "long"

#: Length of outages: longer than a lease.
OUTAGE_S = float(os.environ.get("PIANOFARM_FAULTS_OUTAGE_S", "10" if LONG else "2.5"))

SHORT = [("stored", "partition"), ("rendering", "redis cut off"), ("rendered", "every line flaps")]


@pytest.fixture(scope="module")
def farm_on_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmOnHosts]:
    if why := refusal():
        unavailable(f"no network namespaces here, the faults through proxies must do: {why}")
    network = Network()
    with network.host("producer").entered():
        farm = FarmOnHosts(tmp_path_factory.mktemp("hosts"), network, seed=SEED)
        yield farm
        farm.close()
    network.close()


def cases() -> list[tuple[str, str]]:
    chosen = [(point, trouble) for trouble in NETWORK_TROUBLES for point in POINTS] if LONG else SHORT
    return random.Random(SEED).sample(chosen, len(chosen))


@pytest.mark.parametrize(("point", "trouble"), cases())
def test_a_network_that_loses_packets_loses_no_job(
    farm_on_hosts: FarmOnHosts, point: str, trouble: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("name", f"{trouble}, between hosts @ {point}")
    record_property("outage_s", OUTAGE_S)
    farm_on_hosts.ready(n_workers=3)
    problems = play(farm_on_hosts, point, trouble, outage_s=OUTAGE_S)
    for name, number in farm_on_hosts.counts.items():
        record_property(name, number)
    assert problems == []
