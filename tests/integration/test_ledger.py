"""The ledger on a real server: every arrow of docs/job-states.md, and what must not happen."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis
from ledger_values import request, result, spec
from pydantic import SecretStr

from pianofarm_common.errors import BadSettings, Cancelled, LeaseLost, NotFound, ServiceUnavailable
from pianofarm_common.ledger import Claim, JobTicket, Ledger, Publication, Refusal, WorkerInfo, new_id
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.settings import Settings

EMPTY = dict.fromkeys(PriorityClass, 0)
FULL = dict.fromkeys(PriorityClass, 1000)


def submit(ledger: Ledger, *args: object, **more: object) -> JobTicket:
    return ledger.submit_many([request(*args, **more)])[0]


def claim(ledger: Ledger, ticket: JobTicket, worker: str = "worker", **more: object) -> Claim:
    got = ledger.claim(ticket.key, worker, **more)
    assert isinstance(got, Claim)
    return got


def sweep_until_found(ledger: Ledger, backlog: dict[PriorityClass, int]) -> list[Publication]:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if found := ledger.sweep(backlog):
            return found
        time.sleep(0.02)
    raise AssertionError("the sweep found nothing")


@pytest.fixture
def quick(redis_settings: Settings) -> Iterator[Ledger]:
    """A ledger whose leases lapse after half a second."""
    short = redis_settings.model_copy(update={"lease_s": 0.5, "lost_message_s": 0.5, "max_attempts": 2})
    with closing(Ledger.from_settings(short)) as ledger:
        yield ledger


# -- submitting -----------------------------------------------------------------------------------------------------------


def test_a_hundred_identical_submissions_make_one_render_and_ask_for_one_message(ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(1) for _ in range(100)])
    assert len({ticket.job_id for ticket in tickets}) == 100
    assert len({ticket.key for ticket in tickets}) == 1
    assert [ticket.needs_message for ticket in tickets] == [True] + [False] * 99
    assert ledger.render(tickets[0].key).waiting_jobs == 100
    assert ledger.depth(PriorityClass.STANDARD).queued_renders == 1
    c = claim(ledger, tickets[0])
    ledger.commit(c.key, c.token, result(c.spec))
    assert {job.state for job in ledger.jobs([ticket.job_id for ticket in tickets])} == {State.DONE}
    status = ledger.batch("batch")
    assert (status.total, status.done, status.final) == (100, 100, True)


def test_submitting_the_same_requests_again_after_a_lost_answer_makes_no_second_job(ledger: Ledger) -> None:
    requests = [request(number) for number in range(3)]
    first = ledger.submit_many(requests)
    assert ledger.submit_many(requests) == first
    assert ledger.batch("batch").total == 3
    assert list(ledger.batch_jobs("batch")) == [ticket.job_id for ticket in first]


def test_a_finished_render_is_a_cache_hit(ledger: Ledger) -> None:
    c = claim(ledger, submit(ledger))
    ledger.commit(c.key, c.token, result(c.spec))
    again = submit(ledger, batch="later")
    assert (again.state, again.cached, again.needs_message) == (State.DONE, True, False)
    job = ledger.job(again.job_id)
    assert job.state is State.DONE
    assert job.cached
    assert job.render is not None
    assert job.render.result == result(c.spec)
    assert [event.kind for event in ledger.events("later")] == ["done"]
    assert ledger.batch("later").final


def test_a_more_urgent_job_raises_the_class_of_a_queued_render(ledger: Ledger) -> None:
    submit(ledger, priority=PriorityClass.BULK)
    raised = submit(ledger, priority=PriorityClass.INTERACTIVE)
    assert (raised.priority, raised.needs_message) == (PriorityClass.INTERACTIVE, True)
    lower = submit(ledger, priority=PriorityClass.BULK)
    assert (lower.priority, lower.needs_message) == (PriorityClass.INTERACTIVE, False)
    assert ledger.depth(PriorityClass.BULK).queued_renders == 0
    depth = ledger.depth(PriorityClass.INTERACTIVE)
    assert (depth.queued_renders, depth.queued_audio_s) == (1, 10.0)
    assert ledger.higher_waits(PriorityClass.STANDARD)
    assert not ledger.higher_waits(PriorityClass.INTERACTIVE)


def test_more_requests_than_one_step_takes_keep_their_order(ledger: Ledger) -> None:
    requests = [request(number, name=f"{number}.mid") for number in range(1203)]
    tickets = ledger.submit_many(requests)
    assert [ticket.job_id for ticket in tickets] == [each.job_id for each in requests]
    assert list(ledger.batch_jobs("batch")) == [each.job_id for each in requests]
    assert [job.name for job in ledger.jobs([ticket.job_id for ticket in tickets])] == [f"{n}.mid" for n in range(1203)]
    assert ledger.cancel_batch("batch") == 1203
    assert ledger.batch("batch").cancelled == 1203


# -- working --------------------------------------------------------------------------------------------------------------


def test_one_of_many_that_claim_at_once_gets_the_lease(ledger: Ledger) -> None:
    ticket = submit(ledger)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: ledger.claim(ticket.key, f"worker {number}"), range(48)))
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert answers.count(Refusal.HELD) == 47
    assert ledger.render(ticket.key).attempts == 1


def test_unknown_and_finished_renders_cannot_be_claimed(ledger: Ledger) -> None:
    assert ledger.claim(spec(99).key, "worker") is Refusal.UNKNOWN
    ticket = submit(ledger)
    c = claim(ledger, ticket)
    ledger.commit(c.key, c.token, result(c.spec))
    assert ledger.claim(ticket.key, "worker") is Refusal.FINISHED


def test_progress_is_seen_by_readers_and_watchers(ledger: Ledger) -> None:
    ticket = submit(ledger)
    c = claim(ledger, ticket)
    for percent in range(101):
        assert ledger.progress(c.key, c.token, percent / 100) is False
    assert ledger.render(c.key).fraction == 1.0
    ledger.progress(c.key, c.token, 1.0, uploading=True)
    assert ledger.job(ticket.job_id).state is State.UPLOADING
    assert ledger.batch("batch").running == 1
    ledger.commit(c.key, c.token, result(c.spec))
    kinds = [event.kind for event in ledger.events("batch")]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("running", "uploading", "done")
    assert 10 <= kinds.count("progress") <= 20


def test_a_stale_token_can_do_nothing(quick: Ledger) -> None:
    ticket = submit(quick)
    stale = claim(quick, ticket, "first")
    (found,) = sweep_until_found(quick, FULL)
    assert found.keys == (ticket.key,)
    current = claim(quick, ticket, "second")
    for forbidden in (
        lambda: quick.heartbeat(stale.key, stale.token),
        lambda: quick.progress(stale.key, stale.token, 0.5),
        lambda: quick.commit(stale.key, stale.token, result(stale.spec)),
        lambda: quick.fail(stale.key, stale.token, ValueError("x"), permanent=True),
        lambda: quick.release(stale.key, stale.token),
    ):
        with pytest.raises(LeaseLost, match=ticket.key):
            forbidden()
    assert quick.render(ticket.key).state is State.RUNNING
    quick.commit(current.key, current.token, result(current.spec))
    with pytest.raises(LeaseLost):
        quick.commit(stale.key, stale.token, result(stale.spec))


def test_an_answer_that_got_lost_may_be_asked_for_again(ledger: Ledger) -> None:
    c = claim(ledger, submit(ledger))
    ledger.commit(c.key, c.token, result(c.spec))
    ledger.commit(c.key, c.token, result(c.spec))
    assert ledger.batch("batch").done == 1
    c = claim(ledger, submit(ledger, 2))
    assert ledger.fail(c.key, c.token, ValueError("x"), permanent=False) is State.QUEUED
    assert ledger.fail(c.key, c.token, ValueError("x"), permanent=False) is State.QUEUED
    assert ledger.render(c.key).attempts == 1


def test_a_heartbeat_keeps_the_lease(redis_settings: Settings) -> None:
    with closing(Ledger.from_settings(redis_settings.model_copy(update={"lease_s": 2.0}))) as ledger:
        c = claim(ledger, submit(ledger))
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert ledger.heartbeat(c.key, c.token) is False
            assert ledger.sweep(FULL) == []
            time.sleep(0.05)
        assert ledger.render(c.key).state is State.RUNNING


def test_a_permanent_failure_is_final_at_once_and_says_why(ledger: Ledger) -> None:
    ticket = submit(ledger)
    c = claim(ledger, ticket)
    assert ledger.fail(c.key, c.token, ValueError("bad byte 17"), permanent=True) is State.FAILED
    job = ledger.job(ticket.job_id)
    assert (job.state, job.error_type, job.error) == (State.FAILED, "ValueError", "bad byte 17")
    assert ledger.sweep(EMPTY) == []
    assert [event.error for event in ledger.events("batch") if event.kind == "failed"] == ["bad byte 17"]


def test_a_transient_failure_waits_then_runs_again_until_attempts_are_used_up(ledger: Ledger) -> None:
    ticket = submit(ledger)
    for attempt in (1, 2, 3):
        c = claim(ledger, ticket)
        assert c.attempt == attempt
        state = ledger.fail(c.key, c.token, OSError("network"), permanent=False)
        if attempt < 3:
            assert state is State.QUEUED
            (found,) = sweep_until_found(ledger, FULL)
            assert found == Publication(PriorityClass.STANDARD, (ticket.key,))
    assert state is State.FAILED
    assert ledger.job(ticket.job_id).error == "network"


def test_an_outage_of_a_service_costs_no_attempt_until_it_lasts_too_long(redis_settings: Settings) -> None:
    away = ServiceUnavailable("the store is away")
    with closing(Ledger.from_settings(redis_settings)) as ledger:
        ticket = submit(ledger)
        for number in range(1, 6):
            c = claim(ledger, ticket)
            assert c.attempt == 1
            assert ledger.defer(c.key, c.token, away) is ledger.defer(c.key, c.token, away) is State.QUEUED
            assert ledger.claim(ticket.key, "worker") is Refusal.BACKOFF
            assert ledger.render(ticket.key).deferrals == number
            sweep_until_found(ledger, FULL)
    with closing(Ledger.from_settings(redis_settings.model_copy(update={"outage_patience_s": 0.0}))) as impatient:
        for attempt in (1, 2, 3):
            c = claim(impatient, ticket)
            assert c.attempt == attempt
            state = impatient.defer(c.key, c.token, away)
            if state is State.QUEUED:
                sweep_until_found(impatient, FULL)
        assert state is State.FAILED
        job = impatient.job(ticket.job_id)
        assert (job.error_type, job.error) == ("ServiceUnavailable", "the store is away")
        with pytest.raises(LeaseLost):
            impatient.defer(c.key, "stale", away)


def test_a_lease_that_nobody_could_renew_gets_one_more(quick: Ledger) -> None:
    ticket = submit(quick)
    c = claim(quick, ticket)
    quick.sweep(FULL)
    time.sleep(0.7)  # as long as a Redis that is away: nobody renews, nobody sweeps
    assert quick.sweep(FULL) == []
    assert quick.claim(ticket.key, "other") is Refusal.HELD
    assert quick.heartbeat(c.key, c.token) is False
    (found,) = sweep_until_found(quick, FULL)
    assert (found.keys, quick.render(ticket.key).kills) == ((ticket.key,), 1)


def test_a_sweeper_that_is_slow_finds_the_dead_all_the_same(redis_settings: Settings) -> None:
    slow = redis_settings.model_copy(update={"lease_s": 0.5, "sweep_interval_s": 0.05})
    with closing(Ledger.from_settings(slow)) as ledger:
        ticket = submit(ledger)
        claim(ledger, ticket)
        # Each time nobody was heard for longer than half a lease: one more lease is given, and not again and again.
        found = []
        for _ in range(5):
            time.sleep(0.6)
            found += ledger.sweep(FULL)
        assert [publication.keys for publication in found] == [(ticket.key,)]


def test_during_its_wait_a_render_cannot_be_claimed(redis_settings: Settings) -> None:
    slow = Ledger.from_settings(redis_settings.model_copy(update={"backoff_base_s": 3600.0, "backoff_max_s": 3600.0}))
    ticket = submit(slow)
    c = claim(slow, ticket)
    slow.fail(c.key, c.token, OSError("network"), permanent=False)
    assert slow.claim(ticket.key, "worker") is Refusal.BACKOFF
    assert slow.sweep(EMPTY) == []
    assert slow.depth(PriorityClass.STANDARD).queued_renders == 1


def test_a_render_that_kills_its_workers_is_quarantined_until_somebody_retries_it(quick: Ledger) -> None:
    ticket = submit(quick)
    claim(quick, ticket, "victim 1")
    assert sweep_until_found(quick, FULL) == [Publication(PriorityClass.STANDARD, (ticket.key,))]
    claim(quick, ticket, "victim 2")
    end = time.monotonic() + 30
    while quick.render(ticket.key).state is not State.QUARANTINED:
        assert time.monotonic() < end
        assert quick.sweep(FULL) == []
        time.sleep(0.02)
    job = quick.job(ticket.job_id)
    assert job.state is State.QUARANTINED
    assert "victim 2" in job.error
    assert [render.key for render in quick.quarantined()] == [ticket.key]
    assert quick.batch("batch").final
    assert submit(quick, batch="later").state is State.QUARANTINED
    assert quick.claim(ticket.key, "worker") is Refusal.FINISHED

    assert quick.retry(ticket.key) == Publication(PriorityClass.STANDARD, (ticket.key,))
    assert quick.retry(ticket.key) is None
    assert quick.job(ticket.job_id).state is State.QUEUED
    c = claim(quick, ticket)
    assert c.attempt == 1
    quick.commit(c.key, c.token, result(c.spec))
    assert quick.job(ticket.job_id).state is State.DONE
    assert (quick.batch("batch").done, quick.batch("later").done) == (1, 1)
    assert quick.quarantined() == []


def test_a_new_render_tells_nobody_who_waited_for_one_of_its_key_that_was_forgotten(
    quick: Ledger, redis_url: str
) -> None:
    first = submit(quick, batch="first")
    claim(quick, first, "victim 1")
    sweep_until_found(quick, FULL)
    claim(quick, first, "victim 2")
    end = time.monotonic() + 30
    while quick.job(first.job_id).state is not State.QUARANTINED:
        assert time.monotonic() < end
        quick.sweep(FULL)
    render, waiting = (f"{{pianofarm}}:{kind}:{first.key}" for kind in ("render", "waiting"))
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.expire(render, 100)
        submit(quick, batch="second")
        assert client.pexpiretime(render) == client.pexpiretime(waiting)
        client.delete(render)
        third = submit(quick, batch="third")
        assert client.hgetall(waiting) == {third.job_id: "third"}
        assert client.ttl(waiting) == -1
    c = claim(quick, third)
    quick.commit(c.key, c.token, result(c.spec))
    assert quick.job(third.job_id).state is State.DONE
    assert (quick.batch("second").quarantined, quick.batch("second").done) == (1, 0)


def test_the_ledger_tells_when_the_first_lease_lapses(quick: Ledger) -> None:
    assert quick.lapse_in_s() == math.inf
    first = claim(quick, submit(quick, 1))
    assert 0 < quick.lapse_in_s() <= 0.5
    time.sleep(0.6)
    claim(quick, submit(quick, 2))
    assert quick.lapse_in_s() <= 0
    with pytest.raises(LeaseLost):
        sweep_until_found(quick, EMPTY)
        quick.commit(first.key, first.token, result(first.spec))


def test_a_claim_finds_a_lapsed_lease_without_waiting_for_the_sweeper(quick: Ledger) -> None:
    ticket = submit(quick)
    claim(quick, ticket)
    end = time.monotonic() + 30
    while (got := quick.claim(ticket.key, "second")) is Refusal.HELD:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert isinstance(got, Claim)
    assert got.attempt == 2
    assert quick.render(ticket.key).kills == 1


def test_a_released_render_is_published_at_once_and_its_attempt_not_counted(ledger: Ledger) -> None:
    ticket = submit(ledger)
    c = claim(ledger, ticket)
    ledger.release(c.key, c.token)
    assert ledger.sweep(FULL) == [Publication(PriorityClass.STANDARD, (ticket.key,))]
    assert claim(ledger, ticket).attempt == 1


def test_the_neighbours_in_a_dead_workers_bundle_are_published_with_it_one_by_one(quick: Ledger) -> None:
    first, second, third = quick.submit_many([request(number) for number in (1, 2, 3)])
    claim(quick, first, rest=[second.key, third.key])
    found = sweep_until_found(quick, FULL)
    assert [publication.keys for publication in found] == [(first.key,), (second.key,), (third.key,)]


# -- lost messages --------------------------------------------------------------------------------------------------------


def test_a_queued_render_is_published_again_when_the_queue_is_empty(quick: Ledger) -> None:
    tickets = quick.submit_many([request(number) for number in (1, 2, 3)])
    (found,) = sweep_until_found(quick, EMPTY)
    assert found.priority is PriorityClass.STANDARD
    assert set(found.keys) == {ticket.key for ticket in tickets}
    assert len(found.keys) == 3
    assert quick.sweep(EMPTY) == []


def test_a_render_that_merely_waits_in_a_long_queue_is_left_alone(quick: Ledger) -> None:
    submit(quick, 1)
    time.sleep(0.6)
    assert quick.sweep(FULL) == []


def test_a_render_that_was_overtaken_is_published_again_though_the_queue_is_full(quick: Ledger) -> None:
    lost = submit(quick, 1)
    time.sleep(0.7)
    claim(quick, submit(quick, 2))
    assert quick.sweep(FULL) == [Publication(PriorityClass.STANDARD, (lost.key,))]


# -- cancelling -----------------------------------------------------------------------------------------------------------


def test_a_cancelled_render_is_never_started(ledger: Ledger) -> None:
    ticket = submit(ledger)
    assert ledger.cancel_job(ticket.job_id) is State.CANCELLED
    assert ledger.cancel_job(ticket.job_id) is State.CANCELLED
    assert ledger.claim(ticket.key, "worker that was offline") is Refusal.CANCELLED
    assert ledger.job(ticket.job_id).state is State.CANCELLED
    assert ledger.depth(PriorityClass.STANDARD).queued_renders == 0


def test_a_running_worker_learns_that_nobody_waits_any_more_and_cannot_commit(ledger: Ledger) -> None:
    ticket = submit(ledger)
    c = claim(ledger, ticket)
    ledger.cancel_job(ticket.job_id)
    assert ledger.heartbeat(c.key, c.token) is True
    assert ledger.progress(c.key, c.token, 0.5) is True
    with pytest.raises(Cancelled):
        ledger.commit(c.key, c.token, result(c.spec))
    assert ledger.render(c.key).state is State.CANCELLED


def test_a_render_lives_on_while_somebody_waits(ledger: Ledger) -> None:
    mine, yours = ledger.submit_many([request(1, batch="mine"), request(1, batch="yours")])
    c = claim(ledger, mine)
    assert ledger.cancel_batch("mine") == 1
    assert ledger.cancel_batch("mine") == 0
    assert ledger.heartbeat(c.key, c.token) is False
    ledger.commit(c.key, c.token, result(c.spec))
    assert ledger.job(mine.job_id).state is State.CANCELLED
    assert ledger.job(yours.job_id).state is State.DONE
    assert ledger.cancel_job(yours.job_id) is State.DONE


def test_a_cancelled_or_failed_render_starts_anew_when_it_is_asked_for_again(ledger: Ledger) -> None:
    ticket = submit(ledger)
    old = claim(ledger, ticket)
    ledger.cancel_job(ticket.job_id)
    again = submit(ledger)
    assert (again.state, again.needs_message) == (State.QUEUED, True)
    with pytest.raises(LeaseLost):
        ledger.heartbeat(old.key, old.token)
    c = claim(ledger, again)
    ledger.fail(c.key, c.token, ValueError("no"), permanent=True)
    third = submit(ledger)
    assert third.needs_message
    assert claim(ledger, third).attempt == 1
    assert [ledger.job(each.job_id).state for each in (ticket, again)] == [State.CANCELLED, State.FAILED]


# -- the rest -------------------------------------------------------------------------------------------------------------


def test_unknown_ids_are_not_found(ledger: Ledger) -> None:
    for ask in (ledger.job, ledger.batch, ledger.cancel_job, ledger.cancel_batch, ledger.render, ledger.retry):
        with pytest.raises(NotFound, match="nothing-here"):
            ask("nothing-here")
    assert list(ledger.batch_jobs("nothing-here")) == []
    assert ledger.events("nothing-here") == []


def test_a_watcher_wakes_up_when_something_happens(ledger: Ledger) -> None:
    ticket = submit(ledger)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.events, "batch", "$", 20_000)
        time.sleep(0.3)
        claim(ledger, ticket)
        events = waiting.result()
    assert [(event.kind, event.job_id) for event in events] == [("running", ticket.job_id)]
    assert ledger.events("batch", events[-1].id) == []
    assert len(ledger.events(None)) == 1


def test_what_is_finished_expires_and_what_is_not_does_not(ledger: Ledger, redis_url: str) -> None:
    done, failed, open_ = ledger.submit_many([request(number, batch=f"batch {number}") for number in (1, 2, 3)])
    c = claim(ledger, done)
    ledger.commit(c.key, c.token, result(c.spec))
    c = claim(ledger, failed)
    ledger.fail(c.key, c.token, ValueError("x"), permanent=True)
    bounded = {
        "{pianofarm}:" + name
        for name in ("events", "load", "mark", "fence", "heard", "virtual", "queued:standard", "rested:standard")
    }
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = set(client.scan_iter("*"))
        assert all(key.startswith("{pianofarm}:") for key in keys)
        living = {key for key in keys - bounded if client.ttl(key) < 0}
    assert living == {
        f"{{pianofarm}}:{name}"
        for name in (
            f"render:{open_.key}",
            f"waiting:{open_.key}",
            f"job:{open_.job_id}",
            "batch:batch 3",
            "batchjobs:batch 3",
        )
    }


def test_a_finished_batch_that_grows_is_kept_again(ledger: Ledger, redis_url: str) -> None:
    ledger.adopt([result(spec(1))])
    submit(ledger, 1)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        names = [f"{{pianofarm}}:{kind}:batch" for kind in ("batch", "batchjobs", "events")]
        assert all(client.ttl(name) > 0 for name in names)
        open_ = submit(ledger, 2)
        assert all(client.ttl(name) == -1 for name in names)
        ledger.cancel_job(open_.job_id)
        assert all(client.ttl(name) > 0 for name in names)


def test_a_lost_memory_is_rebuilt_from_sidecars(ledger: Ledger) -> None:
    waiting = submit(ledger, 1)
    results = [result(spec(number)) for number in (1, 2)]
    assert ledger.adopt(results) == 2
    assert ledger.adopt(results) == 0
    assert ledger.job(waiting.job_id).state is State.DONE
    assert submit(ledger, 2).cached
    assert ledger.depth(PriorityClass.STANDARD).queued_renders == 0


def test_a_render_whose_audio_is_gone_is_made_again(ledger: Ledger) -> None:
    ledger.adopt([result(spec(1))])
    assert ledger.forget(spec(1).key)
    assert not ledger.forget(spec(1).key)
    assert submit(ledger, 1).needs_message


def test_unreadable_messages_are_parked(ledger: Ledger) -> None:
    for number in range(1005):
        ledger.park(f"message {number}", "why")
    parked = ledger.parked()
    assert len(parked) == 1000
    assert parked[0] == ("message 1004", "why")


def test_workers_are_listed_while_they_live(ledger: Ledger) -> None:
    for name in ("b", "a"):
        ledger.register_worker(
            WorkerInfo(name=name, host="h", pid=1, device="cpu", backend="tensorflow", started_at=1.0)
        )
    assert [worker.name for worker in ledger.workers()] == ["a", "b"]
    assert abs(ledger.workers()[0].seen_at - time.time()) < 60
    ledger.forget_worker("a")
    assert [worker.name for worker in ledger.workers()] == ["b"]


def test_counts_are_zero_when_all_work_is_done(ledger: Ledger) -> None:
    tickets = ledger.submit_many(
        [request(number, priority=list(PriorityClass)[number % 3]) for number in range(30)]
        + [request(1, priority=PriorityClass.BULK)]
    )
    for number, ticket in enumerate(tickets[:30]):
        got = ledger.claim(ticket.key, "worker")
        assert isinstance(got, Claim)
        if number % 3 == 0:
            ledger.commit(got.key, got.token, result(got.spec))
        elif number % 3 == 1:
            ledger.fail(got.key, got.token, ValueError("x"), permanent=True)
        else:
            ledger.release(got.key, got.token)
    ledger.cancel_batch("batch")
    for priority in PriorityClass:
        depth = ledger.depth(priority)
        assert (depth.queued_renders, depth.queued_audio_s, depth.running_renders, depth.running_audio_s) == (
            0,
            0,
            0,
            0,
        )
    status = ledger.batch("batch")
    assert (status.queued, status.running, status.finished, status.total) == (0, 0, 31, 31)


def test_a_redis_that_is_not_there_is_named_but_its_password_is_not() -> None:
    ledger = Ledger.from_settings(Settings(redis_url="redis://user:the-password@127.0.0.1:9/0", redis_timeout_s=1.0))
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9 .*PIANOFARM_REDIS_URL") as caught:
        ledger.job(new_id())
    assert "the-password" not in str(caught.value)


def test_a_wrong_password_is_a_bad_setting(redis_settings: Settings, redis_url: str) -> None:
    wrong = SecretStr(redis_url.replace("the-redis-password", "wrong-password"))
    ledger = Ledger.from_settings(redis_settings.model_copy(update={"redis_url": wrong}))
    with pytest.raises(BadSettings, match="PIANOFARM_REDIS_URL") as caught:
        ledger.batch("x")
    assert "wrong-password" not in str(caught.value)


def test_a_url_that_is_none_is_a_bad_setting() -> None:
    with pytest.raises(BadSettings, match="PIANOFARM_REDIS_URL"):
        Ledger.from_settings(Settings(redis_url="http://user:the-password@here"))
