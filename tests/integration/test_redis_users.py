"""Every part of a farm with its own user in a real Redis: what each may do works, and what is another's is refused."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from deployed import DEPLOY, Deployed
from ledger_values import request as request_of
from ledger_values import result

from pianofarm_common.errors import BadSettings, NotFound
from pianofarm_common.ledger import Claim, JobRequest, JobTicket, Ledger, WorkerInfo, new_id
from pianofarm_common.ledger.budgets import Budgets, Payer
from pianofarm_common.ledger.callbacks import Callbacks
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.ledger.evidence import KEPT_S, Evidence
from pianofarm_common.ledger.scripts import FILES, PREFIX, sources
from pianofarm_common.ledger.switches import Switches
from pianofarm_common.queue import backlog, make_app, publish_tickets
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.settings import Settings

#: Every request of these tests asks for another render, in a batch of its own: they share a server.
NUMBERS = itertools.count(1)

ROLES = ("producer", "worker", "sweeper", "flower", "monitor", "producer.alice")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PIANOFARM_REDIS_URL", raising=False)
        server = Deployed(tmp_path_factory.mktemp("deployed"))
        server.add_owner("alice")
        yield server
        server.stop()


@pytest.fixture(scope="module")
def settings(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Settings]:
    """The settings of a user of Redis, from the file that its containers would get."""
    return lambda user: deployed.settings_of(user, tmp_path_factory.mktemp(user))


@pytest.fixture(scope="module")
def ledgers(settings: Callable[[str], Settings]) -> Iterator[dict[str, Ledger]]:
    found = {user: Ledger.from_settings(settings(user)) for user in (*ROLES, "pianofarm")}
    yield found
    for ledger in found.values():
        ledger.close()


@pytest.fixture(scope="module")
def clients(settings: Callable[[str], Settings]) -> Iterator[dict[str, redis.Redis]]:
    found = {user: redis.Redis.from_url(settings(user).redis_url.get_secret_value()) for user in ROLES}
    yield found
    for client in found.values():
        client.close()


def request() -> JobRequest:
    number = next(NUMBERS)
    return request_of(number, batch=f"batch-{number}")


def claimed(ledgers: dict[str, Ledger], ticket: JobTicket) -> Claim:
    claim = ledgers["worker"].claim(ticket.key, "w")
    assert isinstance(claim, Claim)
    return claim


def refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (BadSettings, redis.exceptions.NoPermissionError):
        return True
    return False


def test_a_render_goes_from_hand_to_hand_each_with_its_own_rights(
    ledgers: dict[str, Ledger], settings: Callable[[str], Settings]
) -> None:
    producer, worker, sweeper = (
        make_app(settings("producer")),
        make_app(settings("worker")),
        make_app(settings("sweeper")),
    )
    tickets = ledgers["producer"].submit_many([request(), request()])
    assert publish_tickets(producer, tickets) == 2
    assert backlog(sweeper)[tickets[0].priority] == 2
    assert ledgers["sweeper"].sweep(backlog(sweeper)) == []
    claim = claimed(ledgers, tickets[0])
    assert not ledgers["worker"].progress(claim.key, claim.token, 0.5)
    ledgers["worker"].commit(claim.key, claim.token, result(claim.spec))
    assert ledgers["producer"].job(tickets[0].job_id).state is State.DONE
    assert [event.kind for event in ledgers["producer"].events(None, "0", block_ms=10)][-1] == "done"
    again = claimed(ledgers, tickets[1])
    ledgers["worker"].fail(again.key, again.token, ValueError("x"), permanent=True)
    assert ledgers["producer"].retry(again.key) is not None
    assert ledgers["producer"].cancel_job(tickets[1].job_id) is State.CANCELLED
    ledgers["worker"].register_worker(WorkerInfo("w", "here", 1, "cpu", "none", 0.0))
    assert [info.name for info in ledgers["producer"].workers()] == ["w"]
    ledgers["worker"].park("what is this", "nobody knows")
    ledgers["worker"].forget_worker("w")
    for app in (producer, worker, sweeper):
        app.close()


def test_a_producer_cannot_commit_nor_do_anything_else_that_is_a_workers(ledgers: dict[str, Ledger]) -> None:
    (ticket,) = ledgers["producer"].submit_many([request()])
    claim = claimed(ledgers, ticket)
    producer = ledgers["producer"]
    for act in (
        lambda: producer.commit(claim.key, claim.token, result(claim.spec)),
        lambda: producer.fail(claim.key, claim.token, ValueError("x"), permanent=True),
        lambda: producer.release(claim.key, claim.token),
        lambda: producer.heartbeat(claim.key, claim.token),
        lambda: producer.claim(ticket.key, "producer"),
        lambda: producer.sweep(dict.fromkeys(PriorityClass, 0)),
        lambda: producer.adopt([result(claim.spec)]),
        lambda: producer.forget(ticket.key),
        lambda: producer.drop(ticket.key),
    ):
        assert refused(act)
    assert ledgers["producer"].render(ticket.key).state is State.RUNNING
    ledgers["worker"].commit(claim.key, claim.token, result(claim.spec))


def test_a_producer_does_all_that_is_a_producers(ledgers: dict[str, Ledger]) -> None:
    producer, worker = ledgers["producer"], ledgers["worker"]
    number = next(NUMBERS)
    batch = f"batch-{number}"
    waits, held = producer.submit_many([request_of(number, batch, PriorityClass.BULK), request()])
    claim = claimed(ledgers, held)
    # Somebody more urgent, of another owner, for the one that waits and for the one that is made; then everybody leaves.
    urgent = replace(request_of(number, batch, PriorityClass.INTERACTIVE), owner="somebody")
    same = replace(urgent, spec=claim.spec, job_id=new_id())
    more = producer.submit_many([urgent, same])
    assert producer.cancel_batch(batch) == 3
    assert producer.cancel_job(held.job_id) is State.CANCELLED
    assert worker.heartbeat(claim.key, claim.token)
    assert {producer.job(ticket.job_id).state for ticket in (waits, held, *more)} == {State.CANCELLED}
    # A cache hit, and a render that starts anew after it was cancelled.
    (anew,) = producer.submit_many([replace(urgent, job_id=new_id())])
    again = claimed(ledgers, anew)
    worker.commit(again.key, again.token, result(again.spec))
    (cached,) = producer.submit_many([replace(urgent, job_id=new_id())])
    assert cached.cached


def test_an_owners_user_does_all_that_its_client_does(
    ledgers: dict[str, Ledger], settings: Callable[[str], Settings]
) -> None:
    alice, worker = ledgers["producer.alice"], ledgers["worker"]
    mine = [
        replace(request_of(next(NUMBERS), new_id("alice"), priority), owner="alice", job_id=new_id("alice"))
        for priority in (PriorityClass.BULK, PriorityClass.INTERACTIVE)
    ]
    waits, made = alice.submit_many(mine)
    with make_app(settings("producer.alice")) as app:
        assert publish_tickets(app, [waits, made]) == 2
    # Somebody else asks for the same, sooner; then the other way round.
    (theirs,) = ledgers["producer"].submit_many([replace(mine[0], job_id=new_id(), batch=new_id(), owner="bob")])
    claim = claimed(ledgers, made)
    worker.commit(claim.key, claim.token, result(claim.spec))
    assert alice.cancel_batch(waits.batch) == 1
    assert [alice.job(ticket.job_id).state for ticket in (waits, made)] == [State.CANCELLED, State.DONE]
    assert ledgers["producer"].job(theirs.job_id).state is State.QUEUED
    assert [event.kind for event in alice.events(made.batch, "0", block_ms=10)][-1] == "done"
    assert alice.batch(made.batch).total == 1
    other = request()
    (held,) = ledgers["producer"].submit_many([other])
    (beside,) = alice.submit_many([replace(other, job_id=new_id("alice"), batch=new_id("alice"), owner="alice")])
    assert beside.key == held.key
    assert alice.cancel_job(beside.job_id) is State.CANCELLED
    assert ledgers["producer"].job(held.job_id).state is State.QUEUED


def test_an_owners_user_sees_and_touches_no_job_of_others_not_even_by_hand(
    ledgers: dict[str, Ledger], clients: dict[str, redis.Redis], settings: Callable[[str], Settings]
) -> None:
    (ticket,) = ledgers["producer"].submit_many([request()])
    job, batch = ticket.job_id, ticket.batch
    alice = ledgers["producer.alice"]
    for ask in (
        lambda: alice.job(job),
        lambda: alice.batch(batch),
        lambda: list(alice.batch_jobs(batch)),
        lambda: alice.events(batch),
        lambda: alice.events(None),
        lambda: alice.cancel_job(job),
        lambda: alice.cancel_batch(batch),
        lambda: alice.cancel_all("owner", "bob"),
    ):
        with pytest.raises(NotFound, match="PIANOFARM_OWNER"):
            ask()
    # And where a client leaves out that setting, Redis refuses.
    unbound = settings("producer.alice").model_copy(update={"owner": ""})
    ledger = Ledger.from_settings(unbound)
    switches, by_hand = Switches.from_settings(unbound), clients["producer.alice"]
    for ask in (
        lambda: ledger.job(job),
        lambda: ledger.batch(batch),
        lambda: list(ledger.batch_jobs(batch)),
        lambda: ledger.events(batch),
        lambda: ledger.events(None),
        lambda: ledger.cancel_job(job),
        lambda: ledger.submit_many([request()]),
        lambda: list(ledger.waiting_jobs("owner", "bob")),
        lambda: ledger.retry(ticket.key),
        lambda: switches.turn("pause", "owner", "bob"),
        lambda: by_hand.hset(f"{PREFIX}job:{job}", "st", "done"),
        lambda: by_hand.delete(f"{PREFIX}batch:{batch}"),
        lambda: by_hand.scan(0),
    ):
        assert refused(ask)
    ledger.close()
    switches.close()
    assert ledgers["producer"].job(job).state is State.QUEUED


def test_what_an_owners_user_sees_of_others_by_hand_is_known(
    ledgers: dict[str, Ledger], clients: dict[str, redis.Redis]
) -> None:
    """The limits that docs/security.md names: renders are everybody's, and say who waits for them."""
    theirs = replace(request(), owner="bob", priority=PriorityClass.STANDARD)
    (ticket,) = ledgers["producer"].submit_many([theirs])
    by_hand, key = clients["producer.alice"], ticket.key
    assert by_hand.hget(f"{PREFIX}render:{key}", "own") == b"bob"
    assert by_hand.hgetall(f"{PREFIX}waiting:{key}") == {ticket.job_id.encode(): ticket.batch.encode()}
    at_work = by_hand.zrange(f"{PREFIX}rested:standard", 0, -1) + by_hand.zrange(f"{PREFIX}turns:standard", 0, -1)
    assert b"bob" in at_work
    assert b"name" not in by_hand.hgetall(f"{PREFIX}render:{key}")
    # And takes bob's job out of those who are told of the end: his batch never ends.
    assert by_hand.hdel(f"{PREFIX}waiting:{key}", ticket.job_id) == 1
    claim = claimed(ledgers, ticket)
    ledgers["worker"].commit(claim.key, claim.token, result(claim.spec))
    assert not ledgers["producer"].batch(ticket.batch).final
    assert "done" not in {event.kind for event in ledgers["producer"].events(ticket.batch, "0", block_ms=10)}


def test_owners_are_named_as_the_setting_allows(deployed: Deployed) -> None:
    make = [sys.executable, DEPLOY / "redis" / "make_users.py", deployed.secrets, "--owner", "a b"]
    answer = subprocess.run(make, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "--owner 'a b': letters, digits" in answer.stderr
    assert not (deployed.secrets / "producer.a b.env").exists()


@pytest.mark.parametrize(
    ("user", "others"),
    [
        ("producer", "fence parked mark weights barred deaths budgets budget:owner:me calltries"),
        ("worker", "weights switches budgets callback:b calls calltries retiring:x once:x unpaused"),
        ("sweeper", "fence weights switches budgets budget:owner:me budget:batch:b callback:b parked fate:w"),
        ("producer.alice", "fence parked weights switches budgets budget:owner:alice calls callback:b job:b batch:b"),
    ],
)
def test_nobody_writes_by_hand_what_no_script_of_its_writes(
    clients: dict[str, redis.Redis], user: str, others: str
) -> None:
    client = clients[user]
    for key in others.split():
        assert refused(lambda key=key: client.delete(f"{PREFIX}{key}")), key
        assert refused(lambda key=key: client.hset(f"{PREFIX}{key}", "x", "1")), key
        assert refused(lambda key=key: client.set(f"{PREFIX}{key}", "1")), key


@pytest.mark.parametrize("user", ["worker", "sweeper"])
def test_what_a_worker_or_a_sweeper_can_do_by_hand_is_known(
    ledgers: dict[str, Ledger], clients: dict[str, redis.Redis], settings: Callable[[str], Settings], user: str
) -> None:
    """The limits that docs/security.md names, which Redis' rights cannot draw: who may run a script may give its commands."""
    (ticket,) = ledgers["producer"].submit_many([request()])
    by_hand, switches = clients[user], Switches.from_settings(settings("pianofarm"))
    by_hand.hset(f"{PREFIX}job:{ticket.job_id}", "st", "cancelled")
    assert ledgers["producer"].job(ticket.job_id).state is State.CANCELLED
    by_hand.hset(f"{PREFIX}barred", f"host-of-{user}", "{}")
    by_hand.hdel(f"{PREFIX}barred", f"host-of-{user}")
    switches.turn("pause", "batch", ticket.batch)
    assert by_hand.hdel(f"{PREFIX}switches", f"pause:batch:{ticket.batch}") == 1
    switches.close()
    if user == "worker":
        by_hand.incrby(f"{PREFIX}fence", 1)
        by_hand.hset(f"{PREFIX}budget:owner:nobody", "limit_ms", "1")
        by_hand.delete(f"{PREFIX}budget:owner:nobody")


@pytest.mark.parametrize("user", ["worker", "sweeper"])
def test_the_end_of_a_batch_takes_its_switches_away_whoever_sees_it(
    ledgers: dict[str, Ledger], settings: Callable[[str], Settings], user: str
) -> None:
    switches = Switches.from_settings(settings("pianofarm"))
    (ticket,) = ledgers["producer"].submit_many([request()])
    claim = claimed(ledgers, ticket)
    switches.turn("drain", "batch", ticket.batch)
    if user == "worker":
        ledgers["worker"].commit(claim.key, claim.token, result(claim.spec))
    else:
        # The last attempt of a worker that died: the sweep that finds it puts the render in quarantine.
        with redis.Redis.from_url(settings("pianofarm").redis_url.get_secret_value()) as operator:
            attempts = settings("sweeper").max_attempts
            operator.hset(f"{PREFIX}render:{ticket.key}", mapping={"att": attempts, "lease": 1})
            operator.zadd(f"{PREFIX}leases", {ticket.key: 1})
        ledgers["sweeper"].sweep(dict.fromkeys(PriorityClass, 0))
        assert ledgers["producer"].job(ticket.job_id).state is State.QUARANTINED
    assert ticket.batch not in {switch.name for switch in switches.all()}
    switches.close()


def test_a_worker_cannot_cancel_nor_ask_for_work(ledgers: dict[str, Ledger]) -> None:
    (ticket,) = ledgers["producer"].submit_many([request()])
    worker = ledgers["worker"]
    for act in (
        lambda: worker.cancel_job(ticket.job_id),
        lambda: worker.cancel_batch(ticket.batch),
        lambda: worker.submit_many([request()]),
        lambda: worker.retry(ticket.key),
        lambda: worker.sweep(dict.fromkeys(PriorityClass, 0)),
        lambda: worker.adopt([]) or worker.adopt([result(request().spec)]),
    ):
        assert refused(act)
    assert ledgers["producer"].job(ticket.job_id).state is State.QUEUED


def test_a_worker_ends_the_jobs_of_an_empty_budget_and_no_others(
    ledgers: dict[str, Ledger], settings: Callable[[str], Settings]
) -> None:
    operator = Budgets.from_settings(ledgers["pianofarm"], settings("pianofarm"))
    budgets = Budgets.from_settings(ledgers["worker"], settings("worker"))
    rich, poor = ledgers["producer"].submit_many([request(), request()])
    assert not ledgers["worker"].cancel_unpaid(rich.job_id, "because I can")
    operator.set(Payer("batch", rich.batch), 100.0)
    operator.set(Payer("batch", poor.batch), 0.001)
    budgets.charge(poor.key, 5.0)
    assert (budgets.enforce([rich.key]), budgets.enforce([poor.key])) == (0, 1)
    assert not ledgers["worker"].cancel_unpaid(rich.job_id, "because I can")
    states = [ledgers["producer"].job(ticket.job_id).state for ticket in (rich, poor)]
    assert states == [State.QUEUED, State.CANCELLED]
    operator.close()
    budgets.close()


def test_a_worker_notes_how_its_processes_died_for_a_while_and_nobody_else_can(
    settings: Callable[[str], Settings],
) -> None:
    worker = Evidence.from_settings(settings("worker"))
    worker.note_death("node@host:1", "signal 9 (SIGKILL)")
    with redis.Redis.from_url(settings("pianofarm").redis_url.get_secret_value()) as client:
        assert 0 < client.ttl(f"{PREFIX}fate:node@host:1") <= KEPT_S
    worker.close()
    for user in ("producer", "flower", "monitor"):
        stranger = Evidence.from_settings(settings(user))
        assert refused(lambda stranger=stranger: stranger.note_death("node@host:1", "nothing at all"))
        stranger.close()


def test_a_sweeper_only_sweeps(ledgers: dict[str, Ledger]) -> None:
    (ticket,) = ledgers["producer"].submit_many([request()])
    sweeper = ledgers["sweeper"]
    assert refused(lambda: sweeper.claim(ticket.key, "sweeper"))
    assert refused(lambda: sweeper.cancel_job(ticket.job_id))
    assert refused(lambda: sweeper.submit_many([request()]))


def test_a_sweeper_tells_webhooks_that_a_producer_asked_for(
    ledgers: dict[str, Ledger], settings: Callable[[str], Settings]
) -> None:
    producer, sweeper = (Callbacks.from_settings(settings(user)) for user in ("producer", "sweeper"))
    (ticket,) = ledgers["producer"].submit_many([request()])
    producer.ask(ticket.batch, "https://example.org/hook", [])
    ledgers["producer"].cancel_job(ticket.job_id)
    (call,) = sweeper.take(10, 60.0)
    assert (call.job_id, sweeper.url(ticket.batch)) == (ticket.job_id, "https://example.org/hook")
    sweeper.later(call, 60.0)
    sweeper.forget(call)
    assert refused(lambda: producer.take(10, 60.0))
    producer.close()
    sweeper.close()


def test_the_monitor_counts_and_changes_nothing(
    ledgers: dict[str, Ledger], clients: dict[str, redis.Redis], settings: Callable[[str], Settings]
) -> None:
    (ticket,) = ledgers["producer"].submit_many([request()])
    taker = CensusTaker.from_settings(settings("monitor"))
    assert taker.take().classes[ticket.priority].depth.queued_renders >= 1
    assert taker.newest_event() != "0"
    taker.close()
    assert ledgers["monitor"].workers() == []
    assert ledgers["monitor"].job(ticket.job_id).state is State.QUEUED
    assert refused(lambda: ledgers["monitor"].cancel_job(ticket.job_id))
    with pytest.raises(BadSettings, match=r"within a script: have deploy/redis/make_users\.py make"):
        ledgers["monitor"].register_worker(WorkerInfo("w", "here", 1, "cpu", "none", 0.0))
    monitor = clients["monitor"]
    assert refused(lambda: monitor.hset(f"{PREFIX}render:{ticket.key}", "st", "done"))
    assert refused(lambda: monitor.delete(f"{PREFIX}render:{ticket.key}"))
    assert refused(lambda: monitor.lpush("bulk", "x"))


def test_flower_sees_nothing_of_the_ledger(ledgers: dict[str, Ledger], clients: dict[str, redis.Redis]) -> None:
    (ticket,) = ledgers["producer"].submit_many([request()])
    n_messages = clients["flower"].llen("bulk")
    assert refused(lambda: ledgers["flower"].job(ticket.job_id))
    assert refused(lambda: clients["flower"].hgetall(f"{PREFIX}job:{ticket.job_id}"))
    assert refused(lambda: clients["flower"].lpush("bulk", "x"))
    assert clients["flower"].llen("bulk") == n_messages


@pytest.mark.parametrize("user", ROLES)
def test_no_user_runs_a_script_of_its_own_or_leaves_its_keys(clients: dict[str, redis.Redis], user: str) -> None:
    client = clients[user]
    assert client.ping()
    own = "redis.call('SET', KEYS[1], '1')"
    for command in (
        ("EVAL", own, 1, f"{PREFIX}x"),
        ("EVALSHA", client.script_load(own), 1, f"{PREFIX}x"),
        ("FCALL", "f", 0),
        ("SET", "somewhere-else", "1"),
        ("GET", "somewhere-else"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("SCRIPT", "FLUSH"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
    ):
        assert refused(lambda command=command: client.execute_command(*command)), (user, command)
    if user not in ("worker", "flower"):
        assert refused(lambda: client.publish("/0.celery.pidbox", "{}"))


def test_every_script_belongs_to_somebody_and_every_name_in_the_file_is_a_script() -> None:
    named = set()
    for line in (DEPLOY / "redis" / "users.acl").read_text().splitlines():
        if line.startswith("user "):
            named |= {word[1:] for word in line.split() if word.startswith("@")}
    operators = {"adopt", "drop"}
    assert named - {"kombu"} <= set(FILES)
    assert set(FILES) - named == operators


def test_after_an_update_both_versions_run_where_both_are_named(deployed: Deployed, tmp_path: Path) -> None:
    old = tmp_path / "lua"
    old.mkdir()
    lua = Path(sys.modules["pianofarm_common.ledger.scripts"].__file__).with_name("lua")
    for file in lua.glob("*.lua"):
        (old / file.name).write_text("-- of another version\n" + file.read_text())
    acl = deployed.secrets / "redis.acl"
    before = acl.read_text()
    make = [sys.executable, DEPLOY / "redis" / "make_users.py", deployed.secrets]
    subprocess.run(make, check=True)
    assert acl.read_text() == before
    subprocess.run([*make, "--also", old], check=True)
    producer = next(line for line in acl.read_text().splitlines() if line.startswith("user producer"))
    was = next(line for line in before.splitlines() if line.startswith("user producer"))
    assert set(was.split()) < set(producer.split())
    assert producer.count("+evalsha|") == 2 * was.count("+evalsha|")
    assert len(sources(old)) == len(FILES)
    acl.write_text(before)
