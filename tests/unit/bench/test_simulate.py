"""The simulation keeps its books, and agrees with queueing theory where theory has an answer."""

import numpy as np
import pytest
import simpy
from bench.simulate.autoscaler import Scaling, autoscale
from bench.simulate.farm import CLASSES, Farm, Faults
from bench.simulate.pieces import lengths_s, poisson, submit_all
from bench.simulate.questions import at_concurrency, at_load, on_spot, run_batch, scale_up_lag, workers_for
from bench.simulate.service import Service, load_services, save_service
from hypothesis import given, settings
from hypothesis import strategies as st

PLAIN = Service(overhead_s=0.0, speed=10.0, cv=0.0)

faults = st.builds(
    Faults,
    crash_per_render=st.sampled_from([0.0, 0.02, 0.3]),
    transient_per_render=st.sampled_from([0.0, 0.05, 0.5]),
    spot_life_s=st.sampled_from([None, 20.0, 500.0]),
    spot_notice=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(faults=faults, workers=st.integers(1, 9), cold_start_s=st.sampled_from([0.0, 7.0]), seed=st.integers(0, 1000))
def test_no_render_is_lost_or_made_twice_whatever_goes_wrong(faults, workers, cold_start_s, seed):
    env = simpy.Environment()
    farm = Farm(env, Service(0.1, 20.0, 0.3), faults, seed, cold_start_s)
    everything = submit_all(farm, lengths_s(60, seed))
    env.process(autoscale(farm, Scaling(workers, workers)))
    while not everything.processed:
        env.step()
        accounted = farm.n_waiting + farm.n_running + farm.n_away + len(farm.ledger.finished)
        assert accounted == farm.n_submitted == 60
        assert farm.leased_audio_s == pytest.approx(
            sum(worker.render.audio_s for worker in farm.workers if worker.render), abs=1e-6
        )
        assert farm.queued_audio_s == pytest.approx(sum(r.audio_s for q in farm.queues.values() for r in q), abs=1e-6)

    assert sorted(render.number for render in farm.ledger.finished) == list(range(60))
    assert all(render.attempts <= faults.max_attempts for render in farm.ledger.finished)
    assert farm.ledger.busy_s + farm.ledger.wasted_s <= farm.paid_s() * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(faults=faults, seed=st.integers(0, 1000))
def test_littles_law_holds_from_empty_to_empty(faults, seed):
    env = simpy.Environment()
    farm = Farm(env, Service(0.1, 20.0, 0.3), faults, seed)
    env.process(autoscale(farm, Scaling(3, 3)))
    sent = []
    env.run(until=env.process(poisson(farm, lengths_s(50, seed), 0.4, seed, into=sent)))
    env.run(until=simpy.AllOf(env, [render.done for render in sent]))

    # The integral of the number in the system is the sum of the times in it.
    assert farm.ledger.in_system_s == pytest.approx(sum(render.latency_s for render in farm.ledger.finished))


@pytest.mark.parametrize(("load", "cv"), [(0.5, 0.0), (0.7, 0.5), (0.8, 1.0)])
def test_one_worker_waits_as_pollaczek_and_khinchine_say(load, cv):
    service = Service(overhead_s=1.0, speed=1e9, cv=cv)
    env = simpy.Environment()
    farm = Farm(env, service, Faults(), seed=3)
    farm.add_worker()
    sent = []
    env.run(until=env.process(poisson(farm, [1.0] * 60_000, load, seed=4, into=sent)))
    waits_s = [render.wait_s for render in sent if render.started is not None and render.finished is not None]

    expected_s = load * (1 + cv**2) / (2 * (1 - load))
    assert np.mean(waits_s) == pytest.approx(expected_s, rel=0.08)


def test_more_urgent_classes_are_served_first():
    env = simpy.Environment()
    farm = Farm(env, PLAIN, Faults(), seed=1)
    renders = {name: [farm.submit(10.0, name) for _ in range(3)] for name in reversed(CLASSES)}
    farm.add_worker()
    env.run()

    order = sorted((render for group in renders.values() for render in group), key=lambda render: render.finished)
    assert [render.priority for render in order] == [name for name in CLASSES for _ in range(3)]


def test_a_batch_takes_its_work_over_its_workers():
    run = run_batch(PLAIN, [10.0] * 100, workers=5, faults=Faults())

    assert run.took_s == pytest.approx(20.0)
    assert run.wasted == 0


def test_a_cold_start_delays_and_is_paid_for():
    warm = run_batch(PLAIN, [10.0] * 100, workers=5, faults=Faults())
    cold = run_batch(PLAIN, [10.0] * 100, workers=5, cold_start_s=30.0, faults=Faults())

    assert cold.took_s == pytest.approx(warm.took_s + 30.0)
    assert cold.paid_h > warm.paid_h


def test_the_pool_that_is_found_is_in_time_and_one_less_is_not():
    runs = workers_for(PLAIN, 500, 120.0, cold_start_s=0.0, faults=Faults())
    in_time = {run.workers: run.took_s <= 120.0 for run in runs}
    smallest = min(workers for workers, good in in_time.items() if good)

    assert not run_batch(PLAIN, lengths_s(500, 1), smallest - 1, faults=Faults()).took_s <= 120.0


def test_a_crashing_render_fails_after_its_attempts_and_takes_no_worker_along():
    run = run_batch(PLAIN, [10.0] * 10, workers=2, faults=Faults(crash_per_render=1.0))

    assert run.failed == 10
    assert run.wasted == 1.0


def test_concurrency_beyond_the_pool_only_makes_people_wait():
    few = at_concurrency(PLAIN, 8, 4, piece_s=10.0, faults=Faults())
    many = at_concurrency(PLAIN, 40, 4, piece_s=10.0, faults=Faults())

    assert few.per_s == pytest.approx(many.per_s, rel=0.01) == pytest.approx(4.0, rel=0.01)
    assert many.p50_s == pytest.approx(10.0, rel=0.02)
    assert many.littles_law == pytest.approx(1.0, abs=0.01)


def test_waiting_grows_with_the_load():
    runs = [at_load(Service(0.1, 20.0, 0.2), load, 4, n_requests=3000) for load in (0.3, 0.7, 0.95)]

    assert runs[0].p95_s < runs[1].p95_s < runs[2].p95_s


def test_a_longer_cold_start_makes_people_wait_longer():
    quick, slow = (
        scale_up_lag(Service(0.5, 10.0, 0.0), cold_start_s=lag, standby=0, most=8, waves=1) for lag in (5.0, 400.0)
    )

    assert quick.p95_wait_s < slow.p95_wait_s
    assert max(alive for _, alive, _ in slow.over_time) <= 8


def test_the_autoscaler_never_ends_a_render():
    env = simpy.Environment()
    farm = Farm(env, PLAIN, Faults(), seed=1)
    submit_all(farm, [50.0] * 40)
    env.process(autoscale(farm, Scaling(0, 10, target_s=10.0, poll_s=1.0, settle_s=2.0)))
    env.run(until=200.0)

    assert len(farm.ledger.finished) == 40
    assert farm.ledger.wasted_s == 0
    assert farm.workers == []


@pytest.mark.parametrize(
    ("queued", "leased", "wanted"), [(0, 0, 1), (600, 0, 1), (600, 1, 2), (1e9, 0, 50), (0, 6000, 10)]
)
def test_the_autoscaler_wants_workers_for_waiting_and_leased_audio(queued, leased, wanted):
    assert Scaling(1, 50, target_s=60.0).wanted(queued, leased, speed=10.0) == wanted


def test_spot_machines_that_live_short_repeat_more_work():
    short, long = (
        on_spot(Service(0.1, 2.0, 0.0), 200, 4, life_h=life_h, notice=True, cold_start_s=5.0) for life_h in (0.05, 10.0)
    )

    assert short.preemptions > long.preemptions
    assert short.wasted > long.wasted
    assert short.failed == long.failed == 0


def test_the_same_seed_gives_the_same_run():
    service = Service(0.1, 20.0, 0.3)
    runs = [run_batch(service, lengths_s(200, 5), 4, faults=Faults(0.05, 0.05), seed=9) for _ in range(2)]

    assert runs[0] == runs[1]


def test_lengths_are_those_of_the_benchmark():
    drawn = lengths_s(20_000, 1)

    assert 10.0 <= min(drawn) < 10.1
    assert 295.0 < max(drawn) <= 300.0
    assert np.mean(drawn) == pytest.approx(290 / np.log(30), rel=0.02)


def test_a_line_through_measured_times_is_found_again(tmp_path):
    true = Service(0.2, 25.0, 0.1)
    rng = np.random.default_rng(1)
    audio_s = lengths_s(500, 2)
    fitted = Service.fitted(audio_s, [true.draw(length, rng) for length in audio_s], "a test")
    save_service("one", fitted, tmp_path / "services.json")

    assert fitted.overhead_s == pytest.approx(0.2, rel=0.15)
    assert fitted.speed == pytest.approx(25.0, rel=0.03)
    assert fitted.cv == pytest.approx(0.1, rel=0.15)
    assert load_services(tmp_path / "services.json") == {"one": fitted}


def test_scatter_has_a_mean_of_one():
    service, rng = Service(0.0, 1.0, 0.8), np.random.default_rng(2)

    assert np.mean([service.draw(3.0, rng) for _ in range(40_000)]) == pytest.approx(3.0, rel=0.02)
