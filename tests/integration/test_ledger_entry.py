"""Many jobs of one client on a real server: chunks sent ahead of their answers, and what is written once for many jobs."""

from collections.abc import Iterator
from contextlib import closing

import redis
from ledger_values import request

from pianofarm_common.ledger import JobRequest, Ledger
from pianofarm_common.ledger.entry import Chunk
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings

N_CHUNKS, N_JOBS = 5, 40


def chunks(requests: list[JobRequest], at_chunk: dict[int, object]) -> Iterator[Chunk]:
    """Chunks of the requests; before one of them something happens."""
    for number in range(N_CHUNKS):
        if number in at_chunk:
            at_chunk[number]()  # type: ignore[operator]
        chunk = Chunk()
        for each in requests[number * N_JOBS : (number + 1) * N_JOBS]:
            chunk.add(each)
        yield chunk


def test_chunks_whose_connection_or_script_is_gone_are_entered_once_and_in_order(
    ledger: Ledger, redis_settings: Settings
) -> None:
    with closing(redis.Redis.from_url(redis_settings.redis_url.get_secret_value())) as client:
        hang_up = lambda: client.client_kill_filter(_type="normal", skipme=True)  # noqa: E731
        for batch, happens in (("hung up", {2: hang_up}), ("forgotten", {1: client.script_flush, 4: hang_up})):
            requests = [request(number, batch=batch) for number in range(N_CHUNKS * N_JOBS)]
            tickets = [ticket for _, some in ledger.submit_chunks(chunks(requests, happens)) for ticket in some]
            assert [ticket.job_id for ticket in tickets] == [each.job_id for each in requests]
            assert list(ledger.batch_jobs(batch)) == [each.job_id for each in requests]
            assert ledger.batch(batch).queued == ledger.batch(batch).total == len(requests)


def test_a_caller_who_stops_in_the_middle_leaves_a_connection_that_works(ledger: Ledger) -> None:
    requests = [request(number) for number in range(N_CHUNKS * N_JOBS)]
    entering = ledger.submit_chunks(chunks(requests, {}))
    next(entering)
    entering.close()  # type: ignore[attr-defined]
    assert ledger.batch("batch").total >= N_JOBS
    assert [ticket.job_id for ticket in ledger.submit_many(requests)] == [each.job_id for each in requests]
    assert ledger.batch("batch").total == len(requests)


def test_one_chunk_may_hold_jobs_of_many_owners_batches_and_classes_for_the_same_renders(ledger: Ledger) -> None:
    classes = list(PriorityClass)
    requests = [
        request(
            number=n % 60,
            batch=f"batch {n % 4 // 2}",
            priority=classes[n // 5 % 3],
            owner=f"owner {n % 3}",
            name=f"{n}\udc80",
        )
        for n in range(400)
    ]
    tickets = ledger.submit_many(requests)
    assert [ticket.batch for ticket in tickets] == [each.batch for each in requests]
    jobs = ledger.jobs([ticket.job_id for ticket in tickets])
    assert [(job.batch, job.owner, job.priority, job.key) for job in jobs] == [
        (each.batch, each.owner, each.priority, each.spec.key) for each in requests
    ]
    assert [job.name for job in jobs] == [f"{n}?" for n in range(400)]
    renders = ledger.renders(list({ticket.key for ticket in tickets}))
    assert sum(render.waiting_jobs for render in renders.values()) == 400
    assert [ledger.batch(f"batch {number}").queued for number in (0, 1)] == [200, 200]
    # Each render waits in the most urgent class that was asked for, and nowhere else.
    for priority in PriorityClass:
        here = [render for render in renders.values() if render.priority is priority]
        assert ledger.depth(priority).queued_renders == len(here)
        assert ledger.depth(priority).queued_audio_s == 10.0 * len(here)
    assert {ledger.cancel_batch("batch 0"), ledger.cancel_batch("batch 1")} == {200}
    assert all(ledger.depth(priority).queued_renders == 0 for priority in PriorityClass)


def test_renders_behind_their_owner_are_counted_listed_and_admitted_like_any(
    ledger: Ledger, redis_settings: Settings
) -> None:
    requests = [request(number, priority=PriorityClass.BULK, owner="a") for number in range(300)]
    tickets = ledger.submit_many(requests)
    n_published = sum(ticket.needs_message for ticket in tickets)
    assert 0 < n_published < 100
    assert ledger.depth(PriorityClass.BULK).queued_renders == 300
    with closing(redis.Redis.from_url(redis_settings.redis_url.get_secret_value())) as client:
        lane = client.zrange("{pianofarm}:lane:bulk:a", 0, -1)
    assert [key.decode() for key in lane] == [ticket.key for ticket in tickets[n_published:]]
    for ticket in tickets[:n_published]:
        ledger.cancel_job(ticket.job_id)
    (turn,) = ledger.sweep(dict.fromkeys(PriorityClass, 1000))
    assert set(turn.keys) == {ticket.key for ticket in tickets[n_published : 2 * n_published]}
