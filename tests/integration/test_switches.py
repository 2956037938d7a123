"""Pause, drain and resume of queues, owners and batches, and hosts out of rotation: on a real Redis, by the commands of operators."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from farm import environment
from ledger_values import request, result

from pianofarm import Farm
from pianofarm.cli import run
from pianofarm_common.errors import LeaseLost, ServiceUnavailable
from pianofarm_common.ledger import Claim, JobTicket, Ledger, Refusal, WorkerInfo
from pianofarm_common.ledger.hosts import Hosts
from pianofarm_common.ledger.switches import Switches
from pianofarm_common.queue import make_app
from pianofarm_common.renders import PriorityClass, RenderKey, State
from pianofarm_common.settings import Settings
from pianofarm_worker.pulse import Pulse
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.tasks import Bench, work_through

FULL = dict.fromkeys(PriorityClass, 1000)


@pytest.fixture
def redis_settings(redis_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = redis_settings.model_copy(update={"lease_s": 0.5, "host_deaths": 3, "max_attempts": 10})
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def switches(redis_settings: Settings) -> Iterator[Switches]:
    with closing(Switches.from_settings(redis_settings)) as switches:
        yield switches


@pytest.fixture
def hosts(redis_settings: Settings, ledger: Ledger) -> Iterator[Hosts]:
    with closing(Hosts.from_settings(ledger, redis_settings)) as hosts:
        yield hosts


def published(ledger: Ledger, n_renders: int) -> set[RenderKey]:
    """Sweep until so many renders were published."""
    found: set[RenderKey] = set()
    end = time.monotonic() + 30
    while len(found) < n_renders:
        assert time.monotonic() < end
        found |= {key for publication in ledger.sweep(FULL) for key in publication.keys}
        time.sleep(0.02)
    return found


KINDS = {
    "queue": lambda ticket: str(ticket.priority),
    "owner": lambda _ticket: "studio",
    "batch": lambda ticket: ticket.batch,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_paused_is_not_started_and_goes_on_when_the_pause_is_over(
    ledger: Ledger, redis_settings: Settings, kind: str
) -> None:
    running, queued = ledger.submit_many([request(number, owner="studio") for number in (1, 2)])
    c = ledger.claim(running.key, "worker")
    assert isinstance(c, Claim)
    name = KINDS[kind](queued)
    assert run(["pause", f"--{kind}", name]) == 0
    late = ledger.submit_many([request(3, owner="studio")])[0]
    other = ledger.submit_many([request(4, owner="else", batch="other", priority=PriorityClass.INTERACTIVE)])[0]
    assert ledger.claim(queued.key, "worker") is Refusal.PAUSED
    assert ledger.claim(late.key, "worker") is Refusal.PAUSED
    assert isinstance(ledger.claim(other.key, "worker"), Claim)
    assert not {queued.key, late.key} & {key for publication in ledger.sweep(FULL) for key in publication.keys}
    assert ledger.depth(PriorityClass.STANDARD).queued_renders == 2
    # What runs goes on, and may fail, too.
    ledger.commit(c.key, c.token, result(c.spec))
    assert run(["resume", f"--{kind}", name]) == 0
    assert published(ledger, 2) == {queued.key, late.key}
    for ticket in (queued, late):
        assert isinstance(ledger.claim(ticket.key, "worker"), Claim)


def test_a_render_is_made_while_one_of_those_who_wait_for_it_is_not_paused(ledger: Ledger, switches: Switches) -> None:
    mine, _yours = ledger.submit_many([request(1, batch="mine", owner="me"), request(1, batch="yours", owner="you")])
    switches.turn("pause", "batch", "mine")
    assert isinstance(ledger.claim(mine.key, "worker"), Claim)
    (both,) = ledger.submit_many([request(2, batch="mine", owner="me")])
    ledger.submit_many([request(2, batch="yours", owner="you")])
    switches.turn("pause", "owner", "you")
    assert ledger.claim(both.key, "worker") is Refusal.PAUSED


def test_a_pause_moves_no_backlog_and_can_be_cancelled_in(ledger: Ledger, switches: Switches) -> None:
    switches.turn("pause", "queue", "bulk")
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(50)])
    assert not any(ticket.needs_message for ticket in tickets)
    assert ledger.sweep(FULL) == []
    assert ledger.cancel_batch("batch") == 50
    switches.resume("queue", "bulk")
    assert ledger.sweep(FULL) == []
    assert ledger.depth(PriorityClass.BULK).queued_renders == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drained_takes_nothing_new_and_is_made(ledger: Ledger, kind: str) -> None:
    (accepted,) = ledger.submit_many([request(1, owner="studio")])
    name = KINDS[kind](accepted)
    assert run(["drain", f"--{kind}", name]) == 0
    with pytest.raises(ServiceUnavailable, match=f"{kind} {name}.*pianofarm resume"):
        ledger.submit_many([request(2, batch="else", priority=PriorityClass.BULK), request(3, owner="studio")])
    assert ledger.batch("batch").total == 1
    ledger.submit_many([request(4, batch="else", owner="else", priority=PriorityClass.BULK)])
    c = ledger.claim(accepted.key, "worker")
    assert isinstance(c, Claim)
    ledger.commit(c.key, c.token, result(c.spec))
    assert run(["resume", f"--{kind}", name]) == 0
    ledger.submit_many([request(3, owner="studio")])


def test_switches_are_shown_and_those_of_a_batch_vanish_with_it(
    ledger: Ledger, switches: Switches, redis_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (ticket,) = ledger.submit_many([request(1)])
    with Farm(redis_settings) as farm:
        farm.pause("batch", "batch")
        farm.drain("owner", "studio")
    assert [str(switch) for switch in switches.all()] == ["batch batch paused", "owner studio draining"]
    assert run(["status"]) == 0
    assert "batch batch paused" in capsys.readouterr().out
    ledger.cancel_job(ticket.job_id)
    assert [str(switch) for switch in switches.all()] == ["owner studio draining"]
    assert run(["pause", "--queue", "none"]) == run(["pause"]) == run(["pause", "--queue", "bulk", "--owner", "x"]) == 2


def test_all_of_an_owner_or_of_a_queue_is_cancelled(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    tickets = ledger.submit_many(
        [request(number, owner="a") for number in range(3)]
        + [request(number, owner="b", priority=PriorityClass.BULK) for number in range(3, 5)]
        + [request(5, owner="b", priority=PriorityClass.INTERACTIVE)]
    )
    assert run(["cancel", "--owner", "a"]) == run(["cancel", "--queue", "bulk"]) == 0
    assert capsys.readouterr().out.splitlines() == ["owner a: 3 jobs cancelled", "queue bulk: 2 jobs cancelled"]
    assert [ledger.job(ticket.job_id).state for ticket in tickets] == [State.CANCELLED] * 5 + [State.QUEUED]
    assert run(["cancel"]) == run(["cancel", "--queue", "none"]) == run(["cancel", "x", "--owner", "a"]) == 2


def test_the_commands_of_owners_and_top_say_what_is_held_back(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.submit_many([request(number, owner="studio", priority=PriorityClass.BULK) for number in range(100)])
    assert run(["owners", "weight", "studio", "2.5"]) == run(["pause", "--owner", "studio"]) == 0
    assert run(["hosts", "drain", "old"]) == 0
    capsys.readouterr()
    assert run(["owners", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"owner": "studio", "weight": 2.5, "waiting": {"bulk": 70}}
    assert run(["top", "--once", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["switches"], seen["barred_hosts"], seen["queues"]["bulk"]["depth"]["queued_renders"]) == (1, 1, 100)
    assert run(["top", "--once"]) == 0
    assert "1 hosts out of rotation" in " ".join(capsys.readouterr().out.split())


# -- hosts ----------------------------------------------------------------------------------------------------------------


def alive(ledger: Ledger, *names: str) -> None:
    for name in names:
        ledger.register_worker(
            WorkerInfo(name=f"cpu0@{name}:1", host=name, pid=1, device="cpu", backend="none", started_at=1.0)
        )


def die(ledger: Ledger, ticket: JobTicket, host: str) -> None:
    """A worker of this host takes a render, and is never heard again."""
    got = ledger.claim(ticket.key, f"cpu0@{host}:1")
    assert isinstance(got, Claim)
    published(ledger, 1)


def test_a_host_on_which_different_renders_die_gets_no_more_work_until_it_is_restored(
    ledger: Ledger, hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    tickets = ledger.submit_many([request(number) for number in range(4)])
    alive(ledger, "good", "bad")
    for ticket in tickets[:3]:
        assert not ledger.why_barred("bad")
        die(ledger, ticket, "bad")
        time.sleep(0.6)
    assert "3 renders died here" in ledger.why_barred("bad")
    assert ledger.claim(tickets[3].key, "cpu0@bad:2") is Refusal.BARRED
    assert ledger.render(tickets[3].key).attempts == 0
    assert published(ledger, 1) == {tickets[3].key}
    c = ledger.claim(tickets[3].key, "cpu0@good:1")
    assert isinstance(c, Claim)
    ledger.commit(c.key, c.token, result(c.spec))

    assert run(["hosts", "list", "--json"]) == 0
    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert (bad["name"], len(bad["deaths"]), "probably the machine" in bad["verdict"]) == ("bad", 3, True)
    assert (good["name"], good["why"], good["workers"]) == ("good", "", 1)
    assert run(["hosts", "restore", "bad"]) == 0
    assert isinstance(ledger.claim(tickets[0].key, "cpu0@bad:2"), Claim)


def test_a_render_that_dies_everywhere_is_to_blame_and_no_host(ledger: Ledger, hosts: Hosts) -> None:
    alive(ledger, "one", "two")
    (killer,) = ledger.submit_many([request(1)])
    for host in ("one", "one", "one", "two", "one"):
        die(ledger, killer, host)
        time.sleep(0.6)
    assert [(host.name, host.deaths, host.why) for host in hosts.all()] == [("one", (), ""), ("two", (), "")]
    assert ledger.render(killer.key).died_on == ("one", "two")


def test_what_dies_at_one_blow_counts_once_and_the_last_host_stays(ledger: Ledger, hosts: Hosts) -> None:
    alive(ledger, "only")
    tickets = ledger.submit_many([request(number) for number in range(8)])
    for ticket in tickets[:5]:
        assert isinstance(ledger.claim(ticket.key, "cpu0@only:1"), Claim)
    published(ledger, 5)
    (host,) = hosts.all()
    assert (len(host.deaths), host.why) == (1, "")
    for ticket in tickets[5:]:
        time.sleep(0.6)
        die(ledger, ticket, "only")
    (host,) = hosts.all()
    assert (len(host.deaths), host.why) == (4, "")


def test_errors_that_nobody_expected_count_against_the_host_and_expected_ones_do_not(
    ledger: Ledger, hosts: Hosts
) -> None:
    alive(ledger, "good", "bad")
    for number, error in enumerate([RuntimeError("CUDA_ERROR_ECC"), MemoryError(), ServiceUnavailable("away")]):
        (ticket,) = ledger.submit_many([request(number)])
        got = ledger.claim(ticket.key, "gpu0@bad:7")
        assert isinstance(got, Claim)
        assert ledger.fail(got.key, got.token, error, permanent=False) is State.QUEUED
        time.sleep(0.6)
    assert {host.name: len(host.deaths) for host in hosts.all()} == {"bad": 2, "good": 0}


def test_a_worker_of_a_barred_host_passes_its_bundle_on_and_waits(
    ledger: Ledger, hosts: Hosts, redis_settings: Settings
) -> None:
    class Nobody:
        def places(self, *_: object) -> int:
            return 1

        def render(self, *_: object) -> None:
            raise AssertionError("must not be called")

    sign = StopSign()
    me = WorkerInfo(name="cpu0@here:1", host="here", pid=1, device="cpu", backend="none", started_at=0.0)
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(3)])
    assert run(["hosts", "drain", "here"]) == 0
    with closing(make_app(redis_settings)) as app:
        bench = Bench(app, ledger, Pulse(ledger, redis_settings, me, sign), sign, Nobody())
        waits: list[float] = []
        restored: Callable[[str], bool] = hosts.restore

        def wait(pause_s: float, _sign: StopSign) -> None:
            waits.append(pause_s)
            restored("here")

        bench.brake.wait = wait
        with app.connection_for_write() as connection:
            before = connection.default_channel.client.llen("bulk")
            body = {"v": 1, "renders": [ticket.key for ticket in tickets]}
            work_through(bench, body)
            assert (len(waits), connection.default_channel.client.llen("bulk") - before) == (1, 1)
    assert published(ledger, 1) == {tickets[0].key}
    with pytest.raises(LeaseLost):
        ledger.heartbeat(tickets[0].key, "none")
