"""Every trouble a farm may meet, and how it is played at a point of a render's life."""

import os
import signal
import time
from pathlib import Path

from farms import FaultyFarm
from network import flap
from scenario import TIMEOUT_S, Scenario
from services import wait_until

SEED = int(os.environ.get("PIANOFARM_FAULTS_SEED", "1"))

#: Every trouble a farm may meet at a point. The first five happen to the worker itself, the others around it while it waits there.
TROUBLES = (
    "kill",
    "kill worker",
    "stop",
    "memory",
    "partition",
    "redis restart",
    "redis gone",
    "redis frozen",
    "redis disk full",
    "redis failover",
    "redis hangs up",
    "storage 500",
    "storage full",
    "storage silent",
    "torn upload",
    "sweeper killed",
)

#: Those of a farm with clocks of its own.
CLOCK_TROUBLES = (
    "redis clock forward",
    "redis clock back",
    "redis clock back, worker killed",
    "worker clocks forward",
    "worker clocks back",
)

#: Those of a farm whose hosts are network namespaces; "partition" is played there, too.
NETWORK_TROUBLES = (
    "partition",
    "redis cut off",
    "redis unplugged",
    "storage cut off",
    "line flaps",
    "every line flaps",
)

#: How far clocks jump; a lease is two seconds here.
JUMP_S = 3600


def play(farm: FaultyFarm, point: str, trouble: str, *, outage_s: float) -> list[str]:
    """Three jobs, one of them cancelled; the first that gets to `point` meets with `trouble`. Returns what the checker says.

    Args:
        outage_s: how long outages last; longer than a lease.
    """
    farm.ready()
    action = trouble if trouble in ("kill", "kill worker", "stop", "memory") else "wait"
    with farm.scenario() as scenario:
        scenario.faults.arm(point, action)
        scenario.submit()
        pid = scenario.taken(point)
        lone = (
            trouble == "redis failover"
        )  # what is written while a replica takes over may be lost: docs/reliability.md
        if not lone:
            scenario.submit()
            scenario.submit(cancel=True)
        if action == "stop":
            _past_the_lease(scenario, point)
            os.kill(pid, signal.SIGCONT)
        elif action == "wait":
            _trouble_around(scenario, point, trouble, pid, outage_s)
        problems = scenario.finish()
        if trouble not in ("kill worker", "sweeper killed", "redis clock back, worker killed"):
            assert all(worker.process.alive for worker in farm.workers), "workers outlive what happens around them"
        if action == "memory":
            assert Path(f"/proc/{pid}").exists(), "a worker out of memory goes on"
        # Where there was still something to store, the trouble was met to its end.
        assert farm.storage_proxy.left == 0 or point in ("stored", "committed")
        assert scenario.happened("fault", point=point, action=action) == 1
        return problems


def _past_the_lease(scenario: Scenario, point: str) -> None:
    """Wait until somebody else took over; after a commit there is nothing to take over."""
    if point != "committed":
        key = scenario.jobs[0].key
        wait_until(lambda: scenario.happened("claimed", key=key) > 1, "somebody else has the render", TIMEOUT_S)


def _trouble_around(scenario: Scenario, point: str, trouble: str, pid: int, outage_s: float) -> None:
    farm, faults = scenario.farm, scenario.faults
    faults.history.note("fault", point=point, action=trouble, key=scenario.jobs[0].key)
    worker = farm.worker_of(pid)
    random = farm.random
    match trouble:
        case "partition":
            worker.proxy.cut()
            faults.let_go(point)
            _past_the_lease(scenario, point)
            worker.proxy.heal()
        case "redis restart":
            farm.restart_redis()
        case "redis gone":
            farm.restart_redis(after_s=outage_s)
        case "redis frozen":
            farm.freeze_redis(outage_s)
        case "redis disk full":
            farm.fill_redis_disk(outage_s)
        case "redis failover":
            farm.fail_over()
        case "redis hangs up":
            for proxy in [farm.redis_proxy, *(each.proxy for each in farm.workers)]:
                proxy.hang_up()
            scenario.submit()
        case "storage 500":
            farm.storage_proxy.arm("500", random.randint(4, 9))
        case "storage full":
            farm.storage_proxy.arm("507", random.randint(4, 9))
        case "storage silent":
            farm.storage_proxy.arm("swallow", random.randint(4, 9))
        case "torn upload":
            farm.storage_proxy.arm("tear", random.randint(4, 9))
        case "sweeper killed":
            for sweeper in farm.sweepers:
                sweeper.kill()
            worker.process.kill()
            farm.ready()
        case "redis cut off" | "redis unplugged" | "storage cut off":
            host = farm.host(trouble.split()[0])
            (host.unplug if trouble == "redis unplugged" else host.cut)()
            faults.let_go(point)
            time.sleep(outage_s)
            host.heal()
        case "line flaps":
            faults.let_go(point)
            flap([worker.proxy.host], outage_s, random)
        case "every line flaps":
            faults.let_go(point)
            flap([each.proxy.host for each in farm.workers], outage_s, random)
        case "redis clock forward":
            farm.server.clock.move(JUMP_S)
        case "redis clock back":
            farm.server.clock.move(-JUMP_S)
        case "redis clock back, worker killed":
            worker.process.kill()
            farm.server.clock.move(-JUMP_S)
            farm.ready()
        case "worker clocks forward":
            farm.clock.move(JUMP_S)
        case "worker clocks back":
            farm.clock.move(-JUMP_S)
        case _:
            raise AssertionError(trouble)
    faults.let_go(point)


def stale_commit(farm: FaultyFarm, timeout_s: float = TIMEOUT_S) -> list[str]:
    """A worker sleeps over its lease with everything stored, and commits while another holds the render."""
    farm.ready()
    with farm.scenario() as scenario:
        scenario.faults.arm("stored", "stop")
        job = scenario.submit()
        sleeper = scenario.taken("stored")
        scenario.faults.arm("claimed", "wait")
        scenario.taken("claimed")
        os.kill(sleeper, signal.SIGCONT)
        wait_until(lambda: scenario.happened("committed", key=job.key) == 1, "the sleeper commits", TIMEOUT_S)
        scenario.faults.let_go("claimed")
        wait_until(lambda: scenario.happened("committed", key=job.key) == 2, "the other commits", TIMEOUT_S)
        return scenario.finish(timeout_s)


def dead_worker(farm: FaultyFarm, n_sweepers: int, timeout_s: float = TIMEOUT_S) -> list[str]:
    """A worker dies with a render in hand, and others are there."""
    for sweeper in farm.sweepers[n_sweepers:]:
        sweeper.kill()
    farm.ready(n_sweepers=n_sweepers)
    with farm.scenario() as scenario:
        scenario.faults.arm("claimed", "kill worker")
        scenario.submit()
        wait_until(lambda: scenario.happened("fault") == 1, "a worker dies", TIMEOUT_S)
        return scenario.finish(timeout_s)
