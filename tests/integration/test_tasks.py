"""From an error to what the ledger is told, with a real ledger and a maker that fails as the test wants."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery
from farm import midi
from ledger_values import request, result
from pydantic import SecretStr
from services import wait_until

from pianofarm_common.errors import BadMidi, BadSettings, Cancelled, DiskFull, LeaseLost, ServiceUnavailable
from pianofarm_common.ledger import Claim, JobTicket, Ledger, Refusal, WorkerInfo
from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.queue import backlog, make_app, seal_of
from pianofarm_common.renders import PriorityClass, RenderKey, RenderOptions, RenderResult, RenderSpec, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, midi_object, sidecar_object
from pianofarm_worker import tasks
from pianofarm_worker.probe import look
from pianofarm_worker.pulse import Hold, Pulse
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import Stopping, StopSign
from pianofarm_worker.tasks import Bench, work_through
from pianofarm_worker.workshop import Outcome, Workshop


class Maker:
    """Makes a result out of nothing, after it did what the test asks for."""

    def __init__(self) -> None:
        self.made: list[RenderKey] = []
        self.together: list[list[RenderKey]] = []
        self.n_places = 1
        self.before: Callable[[Claim], object] = lambda _claim: None
        self.while_storing: Callable[[Claim], object] = lambda _claim: None

    def places(self, spec: RenderSpec | None = None) -> int:
        return self.n_places

    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Outcome]]:
        self.together.append([hold.claim.key for hold in holds])
        for hold in holds:
            try:
                self.before(hold.claim)
            except Exception as error:
                yield hold, error
            else:
                yield hold, result(hold.claim.spec)

    def store(self, hold: Hold, made: RenderResult) -> RenderResult:
        self.while_storing(hold.claim)
        self.made.append(hold.claim.key)
        return made

    def raising(self, error: BaseException) -> None:
        def fail(_claim: Claim) -> None:
            raise error

        self.before = fail


@pytest.fixture
def app(redis_settings: Settings) -> Iterator[Celery]:
    with contextlib.closing(make_app(redis_settings)) as app:
        yield app


@pytest.fixture
def bench(ledger: Ledger, redis_settings: Settings, app: Celery) -> Bench:
    sign = StopSign()
    me = WorkerInfo(name="me", host="here", pid=1, device="cpu", backend="none", started_at=0.0)
    return Bench(app, ledger, Pulse(ledger, redis_settings, me, sign), sign, Maker())


def message(*tickets: JobTicket) -> dict[str, object]:
    return {"v": 1, "renders": [ticket.key for ticket in tickets]}


def state_after(bench: Bench, ticket: JobTicket, error: BaseException) -> State:
    bench.maker.raising(error)
    work_through(bench, message(ticket))
    return bench.ledger.render(ticket.key).state


def test_each_kind_of_error_has_its_answer(bench: Bench, ledger: Ledger) -> None:
    cases = [
        (BadMidi("byte 7"), State.FAILED),
        (DiskFull("no room"), State.QUEUED),
        (MemoryError(), State.QUEUED),
        (RuntimeError("a fault of our own"), State.QUEUED),
        (Stopping("the end"), State.QUEUED),
        (LeaseLost("gone"), State.RUNNING),
        (ServiceUnavailable("the store is away"), State.QUEUED),
    ]
    tickets = ledger.submit_many([request(number) for number in range(len(cases))])
    assert [state_after(bench, ticket, error) for ticket, (error, _) in zip(tickets, cases, strict=True)] == [
        state for _, state in cases
    ]
    attempts = [ledger.render(ticket.key).attempts for ticket in tickets]
    assert attempts == [1, 1, 1, 1, 0, 1, 0]
    assert [ledger.render(ticket.key).deferrals for ticket in tickets[4:]] == [0, 0, 1]
    assert ledger.render(tickets[3].key).error == "a fault of our own"


def test_a_process_that_is_ended_in_the_middle_hands_its_render_back(bench: Bench, ledger: Ledger) -> None:
    (ticket,) = ledger.submit_many([request()])
    with pytest.raises(SystemExit):
        state_after(bench, ticket, SystemExit(1))
    render = ledger.render(ticket.key)
    assert (render.state, render.attempts) == (State.QUEUED, 0)


def test_a_misconfigured_worker_fails_nobodys_render(
    bench: Bench, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MISCONFIGURED_PAUSE_S", 0.0)
    (ticket,) = ledger.submit_many([request()])
    assert state_after(bench, ticket, BadSettings("the store refuses us")) is State.QUEUED
    assert ledger.render(ticket.key).attempts == 0


def test_a_render_that_makes_no_progress_ends_its_process_and_its_lease(
    ledger: Ledger, redis_settings: Settings
) -> None:
    stalled = threading.Event()
    me = WorkerInfo(name="me", host="here", pid=1, device="cpu", backend="none", started_at=0.0)
    pulse = Pulse(ledger, redis_settings, me, StopSign(), stall_s=1.0, on_stall=stalled.set)
    (ticket,) = ledger.submit_many([request()])
    claim = ledger.claim(ticket.key, "me")
    assert isinstance(claim, Claim)
    pulse.start()
    with pulse.holding(claim) as hold:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            hold.report(0.5)
            time.sleep(0.05)
        assert not stalled.is_set()
        assert stalled.wait(30)
        wait_until(lambda: ledger.sweep(dict.fromkeys(PriorityClass, 1)) != [], "lapsed lease")
    pulse.stop()
    assert ledger.render(ticket.key).kills == 1
    assert ledger.workers() == []


def test_a_cancelled_render_does_not_stop_its_bundle(bench: Bench, ledger: Ledger) -> None:
    first, second = ledger.submit_many([request(1), request(2)])

    def cancel_first(claim: Claim) -> None:
        if claim.key == first.key:
            ledger.cancel_job(first.job_id)
            raise Cancelled("nobody waits")

    bench.maker.before = cancel_first
    work_through(bench, message(first, second))
    assert [ledger.job(ticket.job_id).state for ticket in (first, second)] == [State.CANCELLED, State.DONE]


def test_a_doubled_message_makes_nothing_twice(bench: Bench, ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(1), request(2)])
    work_through(bench, message(*tickets))
    work_through(bench, message(*tickets))
    assert bench.maker.made == [ticket.key for ticket in tickets]


def test_a_worker_that_is_to_stop_passes_the_rest_of_its_bundle_on(bench: Bench, ledger: Ledger, app: Celery) -> None:
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in (1, 2, 3)])
    bench.maker.before = lambda _claim: bench.sign.put_up(3600.0)
    work_through(bench, message(*tickets))
    assert bench.maker.made == [tickets[0].key]
    assert backlog(app)[PriorityClass.BULK] == 1
    assert ledger.claim(tickets[1].key, "other").__class__ is Claim


def test_a_redis_that_is_away_for_a_moment_costs_no_finished_render(
    bench: Bench, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ticket,) = ledger.submit_many([request()])
    commit_many, n_calls = ledger.commit_many, []

    def away_twice(made: object) -> object:
        n_calls.append(1)
        if len(n_calls) < 3:
            raise ServiceUnavailable("away")
        return commit_many(made)

    monkeypatch.setattr(ledger, "commit_many", away_twice)
    monkeypatch.setattr(tasks, "COMMIT_PAUSES_S", (0.0, 0.0, 0.0))
    work_through(bench, message(ticket))
    assert (len(n_calls), ledger.render(ticket.key).state) == (3, State.DONE)


def test_a_worker_waits_longer_after_each_outage_and_not_when_it_is_told_to_stop(bench: Bench, ledger: Ledger) -> None:
    pauses_s = [bench.brake.press() for _ in range(8)]
    assert all(pause_s >= 0.5 * min(10.0, 0.5 * 2**number) for number, pause_s in enumerate(pauses_s))
    assert max(pauses_s) <= 10.0
    bench.brake.let_go()
    assert bench.brake.press() <= 0.5
    bench.sign.put_up(3600.0)
    bench.brake.wait(3600.0, bench.sign)


def test_a_worker_that_waits_for_a_service_says_so_and_does_not_seem_deaf(bench: Bench, ledger: Ledger) -> None:
    bench.pulse.start()
    with bench.pulse.resting("the store is away"):
        wait_until(lambda: any(worker.rests for worker in ledger.workers()), "the worker says that it rests")
        (worker,) = ledger.workers()
        assert worker.rests == "the store is away"
        assert not look(worker, dict.fromkeys(PriorityClass, 7), list(PriorityClass)).suspicious
    wait_until(lambda: not any(worker.rests for worker in ledger.workers()), "the worker works again")
    assert look(ledger.workers()[0], dict.fromkeys(PriorityClass, 7), list(PriorityClass)).suspicious
    bench.pulse.stop()


def test_what_a_dead_worker_stored_is_not_rendered_again(
    ledger: Ledger, redis_settings: Settings, tmp_path: Path
) -> None:
    def no_model(_info: object) -> None:
        raise AssertionError("rendered again")

    store = LocalBlobStore(tmp_path)
    workshop = Workshop(redis_settings, store, Shelf(store, tmp_path / "state", no_model), worker="me")
    (ticket,) = ledger.submit_many([request()])
    claimed = ledger.claim(ticket.key, "dead")
    assert not isinstance(claimed, Refusal)
    known = result(claimed.spec)
    store.put(known.audio_key, b"audio")
    store.put(sidecar_object(ticket.key), known.model_dump_json().encode())
    second = Claim(**(vars(claimed) | {"attempt": 2}))
    assert workshop.make(Hold(second, StopSign())) == known
    store.delete(known.audio_key)
    with pytest.raises(BadMidi, match="submit it again"):
        workshop.make(Hold(second, StopSign()))


def test_a_midi_object_that_is_not_the_performance_asked_for_is_refused(
    redis_settings: Settings, tmp_path: Path
) -> None:
    store = LocalBlobStore(tmp_path)
    workshop = Workshop(redis_settings, store, Shelf(store, tmp_path, lambda info: None), worker="me")
    asked = request().spec
    store.put(midi_object(asked.performance_sha256), midi(60))
    claim = Claim(asked.key, "1:x", 10.0, asked, 1, PriorityClass.BULK, 0.0)
    other = read_performance(midi(60), MidiLimits.from_settings(redis_settings)).sha256
    with pytest.raises(BadMidi, match=other[:12]):
        workshop.make(Hold(claim, StopSign()))


def test_the_midi_of_the_next_renders_of_a_message_is_fetched_while_one_is_under_way(
    bench: Bench, ledger: Ledger, redis_settings: Settings, tmp_path: Path
) -> None:
    store = LocalBlobStore(tmp_path)
    workshop = Workshop(redis_settings, store, Shelf(store, tmp_path, lambda info: None), worker="me")
    data = midi(60)
    digest = read_performance(data, MidiLimits.from_settings(redis_settings)).sha256
    store.put(midi_object(digest), data)
    requests = [request(number, priority=PriorityClass.BULK) for number in range(3)]
    requests = [
        replace(
            each,
            spec=each.spec.model_copy(update={"performance_sha256": digest, "options": RenderOptions(piano=number)}),
        )
        for number, each in enumerate(requests)
    ]
    tickets = ledger.submit_many(requests)
    bench = replace(bench, expect=workshop.expect)
    asked_by: list[str] = []
    get = store.get
    store.get = lambda key, *limits: asked_by.append(threading.current_thread().name) or get(key, *limits)
    bench.maker.before = lambda claim: workshop._performance(claim.spec)
    work_through(bench, message(*tickets))
    assert bench.maker.made == [ticket.key for ticket in tickets]
    assert sorted(name.split("_")[0] for name in asked_by) == ["MainThread", "ahead", "ahead"]


def test_a_look_ahead_that_fails_costs_no_render(bench: Bench, ledger: Ledger) -> None:
    def fail(now: object, soon: object) -> None:
        raise ServiceUnavailable("Redis is away")

    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(2)])
    work_through(replace(bench, expect=fail), message(*tickets))
    assert [ledger.render(ticket.key).state for ticket in tickets] == [State.DONE, State.DONE]


def test_a_bundle_of_an_unknown_version_is_parked_whole_and_its_renders_wait_for_another(
    bench: Bench, ledger: Ledger, redis_settings: Settings, app: Celery
) -> None:
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(3)])
    keys = [ticket.key for ticket in tickets]
    work_through(bench, message(*tickets) | {"v": 2})
    assert bench.maker.made == []
    ((parked, why),) = ledger.parked()
    assert all(key in parked for key in keys)
    assert "message version 2 is not known here" in why
    assert {(status.state, status.attempts) for status in ledger.renders(keys).values()} == {(State.QUEUED, 0)}

    # The message is used up: the sweeper takes it for a lost one.
    published: list[RenderKey] = []

    def found() -> bool:
        for publication in ledger.sweep(backlog(app)):
            published.extend(publication.keys)
        return len(published) >= len(keys)

    wait_until(found, "the renders of the parked message")
    work_through(bench, {"v": 1, "renders": published})
    assert set(bench.maker.made) == set(keys)


def test_where_messages_are_signed_all_others_are_parked_with_the_reason(
    bench: Bench, ledger: Ledger, redis_settings: Settings
) -> None:
    key = "the-key-of-this-farm-" + "0" * 32
    signing = redis_settings.model_copy(update={"message_keys": SecretStr(key)})
    (ticket,) = ledger.submit_many([request()])
    with contextlib.closing(make_app(signing)) as app:
        signed = replace(bench, app=app)
        work_through(signed, message(ticket))
        work_through(signed, message(ticket) | {"sig": "0" * 64})
        assert bench.maker.made == []
        (forged, wrong), (unsigned, missing) = ledger.parked()
        assert "signed by none of the 1 keys" in wrong
        assert "without a signature" in missing
        assert ticket.key in forged
        assert ticket.key in unsigned
        assert key not in forged + wrong + unsigned + missing
        work_through(signed, seal_of(app).sealed(message(ticket)))
    assert ledger.render(ticket.key).state is State.DONE
