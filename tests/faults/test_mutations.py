"""The checker bites: a farm without its fencing, and one without its sweeper, and one whose commits ask for no cancellation, are found out; the whole farm is not."""

from campaign import dead_worker, late_commit, stale_commit
from farms import FaultyFarm


def test_a_worker_that_slept_over_its_lease_cannot_commit(farm: FaultyFarm) -> None:
    assert stale_commit(farm) == []


def test_without_fencing_it_can_and_the_checker_finds_out(farm: FaultyFarm) -> None:
    with farm.mutated("without-fencing"):
        problems = stale_commit(farm)
    assert "stale" in {problem.split(":")[0] for problem in problems}


def test_a_worker_that_slept_over_a_cancellation_cannot_commit(farm: FaultyFarm) -> None:
    assert late_commit(farm) == []


def test_where_a_commit_asks_for_no_cancellation_it_can_and_the_checker_finds_out(farm: FaultyFarm) -> None:
    with farm.mutated("without-cancellation"):
        problems = late_commit(farm)
    assert [problem.split(":")[0] for problem in problems] == ["uncancelled"]


def test_without_a_sweeper_the_render_of_a_dead_worker_is_lost_and_the_checker_finds_out(farm: FaultyFarm) -> None:
    problems = dead_worker(farm, n_sweepers=0, timeout_s=8.0)
    assert [problem.split(":")[0] for problem in problems] == ["lost"]
    assert dead_worker(farm, n_sweepers=1) == []
