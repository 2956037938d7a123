"""Every trouble a farm may meet, and how it is played at a point of a render's life."""

import os
import signal
import time
from pathlib import Path

from farms import FaultyFarm, Worker
from network import flap
from scenario import TIMEOUT_S, Scenario
from services import wait_until

from pianofarm_common.renders import State

SEED = int(os.environ.get("PIANOFARM_FAULTS_SEED", "1"))

#: Every trouble a farm may meet at a point. Those before Redis' happen to the worker itself, the others around it while it waits there.
TROUBLES = (
    "kill",
    "kill worker",
    "stop",
    "stop, render cancelled",
    "memory",
    "partition",
    "partition, render cancelled",
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

#: Added to a trouble that takes a worker away for a while: the render in its hand is cancelled meanwhile.
CANCELLED = ", render cancelled"

#: How far clocks jump; a lease is two seconds here.
JUMP_S = 3600


def play(farm: FaultyFarm, point: str, trouble: str, *, outage_s: float) -> list[str]:
    """Three jobs, one of them cancelled; the first that gets to `point` meets with `trouble`. Returns what the checker says.

    Args:
        outage_s: how long outages last; longer than a lease.
    """
    farm.ready()
    action = trouble.removesuffix(CANCELLED)
    action = action if action in ("kill", "kill worker", "stop", "memory") else "wait"
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
            _while_it_is_away(scenario, point, trouble)
            os.kill(pid, signal.SIGCONT)
        elif action == "wait":
            _trouble_around(scenario, point, trouble, pid, outage_s)
        if trouble.endswith(CANCELLED):
            _is_refused(scenario, point, farm.worker_of(pid))
        problems = scenario.finish()
        if trouble not in ("kill worker", "sweeper killed", "redis clock back, worker killed"):
            assert all(worker.process.alive for worker in farm.workers), "workers outlive what happens around them"
        if action == "memory":
            assert Path(f"/proc/{pid}").exists(), "a worker out of memory goes on"
        # Where there was still something to store, the trouble was met to its end.
        assert farm.storage_proxy.left == 0 or point in ("stored", "committed")
        assert scenario.happened("fault", point=point, action=action) == 1
        return problems


def _while_it_is_away(scenario: Scenario, point: str, trouble: str) -> None:
    """Wait until somebody else took over, or until nobody wants what the worker has in hand and its lease would be over as well."""
    if not trouble.endswith(CANCELLED):
        _past_the_lease(scenario, point)
        return
    state = scenario.cancel(scenario.jobs[0])
    assert state is (State.DONE if point == "committed" else State.CANCELLED), state
    time.sleep(1.5 * scenario.farm.settings.lease_s)


def _is_refused(scenario: Scenario, point: str, worker: Worker) -> None:
    """The worker that was away drops the render that was cancelled meanwhile; what it has committed before stays."""
    if point == "committed":
        return
    key = scenario.jobs[0].key

    def dropped() -> bool:
        return any("render dropped" in line and key in line for line in worker.process.output().splitlines())

    wait_until(dropped, f"{worker.name} drops the cancelled render", TIMEOUT_S, worker.process)
    if point == "stored":  # nothing is left to ask but whether the commit counts
        assert any(scenario.happened("committed", key=key, outcome=name) for name in ("Cancelled", "LeaseLost"))


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
        case "partition" | "partition, render cancelled":
            worker.proxy.cut()
            faults.let_go(point)
            _while_it_is_away(scenario, point, trouble)
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


def late_commit(farm: FaultyFarm, timeout_s: float = TIMEOUT_S) -> list[str]:
    """A worker sleeps with everything stored; its render is cancelled meanwhile, and it commits."""
    farm.ready()
    with farm.scenario() as scenario:
        scenario.faults.arm("stored", "stop")
        job = scenario.submit()
        sleeper = scenario.taken("stored")
        scenario.cancel(job)
        os.kill(sleeper, signal.SIGCONT)
        wait_until(lambda: scenario.happened("committed", key=job.key) == 1, "the sleeper commits", TIMEOUT_S)
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
