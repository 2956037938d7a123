"""The checker bites: a farm without its fencing, and one without its sweeper, are found out; the whole farm is not."""

from campaign import dead_worker, stale_commit
from farms import FaultyFarm


def test_a_worker_that_slept_over_its_lease_cannot_commit(farm: FaultyFarm) -> None:
    assert stale_commit(farm) == []


def test_without_fencing_it_can_and_the_checker_finds_out(farm: FaultyFarm) -> None:
    with farm.without_fencing():
        problems = stale_commit(farm)
    assert "stale" in {problem.split(":")[0] for problem in problems}


def test_without_a_sweeper_the_render_of_a_dead_worker_is_lost_and_the_checker_finds_out(farm: FaultyFarm) -> None:
    problems = dead_worker(farm, n_sweepers=0, timeout_s=8.0)
    assert [problem.split(":")[0] for problem in problems] == ["lost"]
    assert dead_worker(farm, n_sweepers=1) == []
