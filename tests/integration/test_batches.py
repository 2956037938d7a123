"""Several renders in the hands of one worker: claimed together, each with its own end; and whom a dead worker is held against."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from farm import SineFarm, make_model, midi
from ledger_values import request
from services import wait_until
from sine_farm import KILLS, SILENT, SinePiano
from test_tasks import Maker, message

from pianofarm import Farm
from pianofarm_common.errors import Cancelled, LeaseLost, QualityGateFailed
from pianofarm_common.ledger import Claim, Ledger, Publication, WorkerInfo
from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.models import find_model
from pianofarm_common.queue import make_app, publish_bundles
from pianofarm_common.renders import PriorityClass, RenderOptions, RenderSpec, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, midi_object
from pianofarm_worker.delivery import Delivery
from pianofarm_worker.pulse import Hold, Pulse
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import Stopping, StopSign
from pianofarm_worker.tasks import Bench, work_through
from pianofarm_worker.workshop import Made, Workshop

TIMEOUT_S = 120
FULL = dict.fromkeys(PriorityClass, 1)


@pytest.fixture
def bench(ledger: Ledger, redis_settings: Settings) -> Iterator[Bench]:
    sign = StopSign()
    me = WorkerInfo(name="me", host="here", pid=1, device="cpu", backend="none", started_at=0.0)
    with contextlib.closing(make_app(redis_settings)) as app:
        pulse = Pulse(ledger, redis_settings, me, sign)
        yield Bench(app, ledger, pulse, sign, Maker(), Delivery())


def of_piano(number: int, piano: int) -> object:
    asked = request(number, priority=PriorityClass.BULK)
    return replace(asked, spec=asked.spec.model_copy(update={"options": RenderOptions(piano=piano)}))


# -- claiming ---------------------------------------------------------------------------------------------------------


def test_renders_of_one_kind_are_made_together_in_the_order_of_their_message(bench: Bench, ledger: Ledger) -> None:
    bench.maker.n_places = 3
    pianos = [0, 1, 0, 0, 1, 0]
    keys = [ticket.key for ticket in ledger.submit_many([of_piano(n, piano) for n, piano in enumerate(pianos)])]
    work_through(bench, {"v": 1, "renders": keys})
    bench.delivery.wait()
    places = [[keys.index(key) for key in hand] for hand in bench.maker.together]
    assert places == [[0, 2, 3], [1, 4], [5]]
    assert all(ledger.render(key).state is State.DONE for key in keys)


def test_a_cancelled_or_broken_render_leaves_the_others_of_its_batch_alone(bench: Bench, ledger: Ledger) -> None:
    bench.maker.n_places = 4
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(4)])

    def before(claim: Claim) -> None:
        if claim.key == tickets[1].key:
            ledger.cancel_job(tickets[1].job_id)
            raise Cancelled("nobody waits")
        if claim.key == tickets[2].key:
            raise QualityGateFailed("silent")

    bench.maker.before = before
    work_through(bench, message(*tickets))
    bench.delivery.wait()
    assert len(bench.maker.together) == 1
    states = [ledger.job(ticket.job_id).state for ticket in tickets]
    assert states == [State.DONE, State.CANCELLED, State.FAILED, State.DONE]


def test_every_lease_of_a_batch_is_renewed_and_every_cancellation_heard(bench: Bench, ledger: Ledger) -> None:
    bench.maker.n_places = 3
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(3)])
    holds: list[Hold] = []

    def render(of: list[Hold]) -> Iterator[tuple[Hold, Exception]]:
        holds.extend(of)
        ledger.cancel_job(tickets[1].job_id)
        time.sleep(2.5)  # longer than a lease
        for hold in of:
            wait_until(lambda hold=hold: hold.cancelled == (hold is of[1]), "every hold hears of its own render")
            yield hold, Stopping("enough")

    bench.maker.render = render
    bench.pulse.start()
    work_through(bench, message(*tickets))
    bench.pulse.stop()
    assert len(holds) == 3
    assert not any(hold.lost for hold in holds)
    assert [ledger.render(ticket.key).kills for ticket in tickets] == [0, 0, 0]


# -- delivery ---------------------------------------------------------------------------------------------------------


def test_the_next_render_begins_while_the_last_one_is_stored_and_only_one_waits(bench: Bench, ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(number) for number in range(3)])
    begun: list[str] = []
    go = threading.Event()
    bench.maker.before = lambda claim: begun.append(claim.key)
    bench.maker.while_storing = lambda _claim: go.wait(60)
    bench.pulse.start()
    working = threading.Thread(target=lambda: [work_through(bench, message(ticket)) for ticket in tickets])
    working.start()
    wait_until(lambda: len(begun) == 2, "the second render begins while the first is stored")
    time.sleep(2.5)  # longer than a lease, and time enough for a third render to begin
    assert len(begun) == 2
    assert [hold.claim.key for hold in bench.delivery.in_hand] == [tickets[0].key]
    assert [ledger.render(ticket.key).kills for ticket in tickets] == [0, 0, 0]
    go.set()
    working.join()
    assert bench.delivery.wait(60) == []
    bench.pulse.stop()
    assert [ledger.render(ticket.key).state for ticket in tickets] == [State.DONE] * 3
    assert bench.maker.made == [ticket.key for ticket in tickets]


def test_what_is_stored_soon_after_another_is_committed_with_it_and_a_refusal_is_for_one(
    bench: Bench, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_renders = 6
    bench.maker.n_places = n_renders
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(n_renders)])
    commits: list[list[str]] = []
    commit_many = ledger.commit_many

    def noted(made: list[tuple]) -> object:
        if not commits:
            wait_until(lambda: len(bench.delivery.in_hand) == n_renders, "all of them are made")
            ledger.cancel_job(tickets[2].job_id)
        commits.append([key for key, _, _ in made])
        return commit_many(made)

    def store(claim: Claim) -> None:
        if claim.key == tickets[4].key:
            raise QualityGateFailed("the store has a taste")

    monkeypatch.setattr(ledger, "commit_many", noted)
    monkeypatch.setattr("pianofarm_worker.tasks.COMMIT_S", 3600.0)
    bench.maker.while_storing = store
    work_through(bench, message(*tickets))
    assert bench.delivery.wait(60) == []
    keys = [ticket.key for ticket in tickets]
    assert [key for each in commits for key in each] == [*keys[:4], keys[5]]
    assert max(map(len, commits)) >= 2
    states = [ledger.job(ticket.job_id).state for ticket in tickets]
    assert states == [State.DONE, State.DONE, State.CANCELLED, State.DONE, State.FAILED, State.DONE]


def test_each_render_is_committed_before_the_next_is_stored_where_the_store_takes_its_time(
    bench: Bench, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.maker.n_places = 3
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(3)])
    done: list[int] = []
    bench.maker.while_storing = lambda _claim: done.append(ledger.batch("batch").done)
    monkeypatch.setattr("pianofarm_worker.tasks.COMMIT_S", 0.0)
    work_through(bench, message(*tickets))
    assert bench.delivery.wait(60) == []
    assert done == [0, 1, 2]


def test_what_cannot_be_stored_is_told_to_the_ledger_by_the_delivery(bench: Bench, ledger: Ledger) -> None:
    (ticket,) = ledger.submit_many([request()])

    def refuse(_claim: Claim) -> None:
        raise QualityGateFailed("the store has a taste")

    bench.maker.while_storing = refuse
    work_through(bench, message(ticket))
    bench.delivery.wait()
    assert ledger.job(ticket.job_id).state is State.FAILED


def test_a_render_that_is_to_be_made_alone_waits_for_the_delivery_and_is_stored_before_the_next(
    bench: Bench, ledger: Ledger
) -> None:
    bench.maker.n_places = 8
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(4)])
    die_together(ledger, tickets[:2])
    in_hand: list[int] = []
    bench.maker.before = lambda _claim: in_hand.append(len(bench.delivery.in_hand))
    work_through(bench, message(tickets[2], tickets[0], tickets[1], tickets[3]))
    bench.delivery.wait()
    assert bench.maker.together == [
        [tickets[2].key, tickets[3].key],
        [tickets[0].key],
        [tickets[1].key],
    ]
    assert in_hand[2:] == [0, 0]
    assert bench.maker.made[-2:] == [tickets[0].key, tickets[1].key]


# -- death ------------------------------------------------------------------------------------------------------------


def die_together(ledger: Ledger, tickets: list) -> list[Publication]:
    """A worker claims these together and is not heard of again; returns what is published then."""
    claims = ledger.claim_many([ticket.key for ticket in tickets], "victim")
    assert all(isinstance(claim, Claim) for claim in claims)
    return swept(ledger, len(tickets))


def swept(ledger: Ledger, n_found: int) -> list[Publication]:
    found: list[Publication] = []

    def enough() -> bool:
        found.extend(ledger.sweep(FULL))
        return len(found) >= n_found

    wait_until(enough, "lapsed leases")
    return found


def test_a_batch_that_kills_its_worker_costs_nobody_an_attempt_but_is_made_one_by_one_then(ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(3)])
    found = die_together(ledger, tickets)
    assert sorted(publication.keys for publication in found) == sorted((ticket.key,) for ticket in tickets)
    for ticket in tickets:
        render = ledger.render(ticket.key)
        assert (render.state, render.attempts, render.kills, render.alone) == (State.QUEUED, 0, 0, True)
        assert "alone" in render.error


def test_what_dies_alone_after_its_batch_is_held_against_it(ledger: Ledger, redis_settings: Settings) -> None:
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(2)])
    die_together(ledger, tickets)
    for attempt in range(1, redis_settings.max_attempts + 1):
        claim = ledger.claim(tickets[0].key, "another victim")
        assert isinstance(claim, Claim)
        assert (claim.attempt, claim.alone) == (attempt, True)
        wait_until(lambda: lapsed(ledger, tickets[0].key), "the lease lapses")
    assert ledger.render(tickets[0].key).state is State.QUARANTINED
    assert ledger.render(tickets[1].key).attempts == 0


def lapsed(ledger: Ledger, key: str) -> bool:
    ledger.sweep(FULL)
    return ledger.render(key).state is not State.RUNNING


def test_a_worker_that_dies_of_a_render_while_another_is_stored_is_held_against_the_first_only(ledger: Ledger) -> None:
    made, killer = ledger.submit_many([request(number) for number in range(2)])
    first = ledger.claim(made.key, "victim")
    assert isinstance(first, Claim)
    ledger.claim_many([killer.key], "victim", made=[first])
    swept(ledger, 2)
    renders = ledger.renders([made.key, killer.key])
    assert [(render.attempts, render.kills, render.alone) for render in renders.values()] == [
        (0, 0, True),
        (1, 1, False),
    ]


def test_the_rest_of_a_batchs_message_is_published_once(ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(number, priority=PriorityClass.BULK) for number in range(4)])
    keys = [ticket.key for ticket in tickets]
    ledger.claim_many(keys[:2], "victim", rest=keys[2:])
    found = swept(ledger, 4)
    assert sorted(key for publication in found for key in publication.keys) == sorted(keys)


@pytest.fixture
def farm_of_batches(settings: Settings, tmp_path: Path) -> Iterator[tuple[Farm, SineFarm]]:
    settings = settings.model_copy(update={"model": "sine", "batch_size": 4})
    make_model(settings.state_dir)
    processes = SineFarm(settings, tmp_path)
    processes.worker()
    processes.sweeper()
    with Farm(settings) as farm:
        yield farm, processes
    processes.stop_all()


def test_a_killer_in_a_batch_is_quarantined_and_its_neighbours_are_made(
    farm_of_batches: tuple[Farm, SineFarm],
) -> None:
    farm, _ = farm_of_batches
    # The model is loaded by a render that is counted, not for a batch.
    farm.submit(midi(59, seconds=0.1)).wait(timeout_s=TIMEOUT_S)
    ledger = farm.services.ledger
    jobs = farm.submit_many([midi(pitch, seconds=0.1) for pitch in (60, KILLS, 61, SILENT)], priority="bulk").jobs
    publish_bundles(farm.services.queue, PriorityClass.BULK, [[job.key for job in jobs]])
    states = [job.wait(timeout_s=TIMEOUT_S).state for job in jobs]
    assert states == [State.DONE, State.QUARANTINED, State.DONE, State.FAILED]
    renders = [ledger.render(job.key) for job in jobs]
    assert renders[1].kills == renders[1].attempts == farm.settings.max_attempts
    assert [(render.attempts, render.kills) for render in (renders[0], *renders[2:])] == [(1, 0)] * 3


# -- the workshop -----------------------------------------------------------------------------------------------------


@pytest.fixture
def workshop(redis_settings: Settings, tmp_path: Path) -> Workshop:
    make_model(redis_settings.state_dir)
    store = LocalBlobStore(tmp_path / "objects")
    piano = SinePiano(find_model("sine", redis_settings.state_dir), redis_settings.state_dir, batch_size=8)
    workshop = Workshop(redis_settings, store, Shelf(store, redis_settings.state_dir, lambda _info: piano), "me")
    workshop.store_for_test, workshop.piano_for_test = store, piano
    return workshop


def holds_of(workshop: Workshop, settings: Settings, *pitches: int) -> list[Hold]:
    model, sign, holds = find_model("sine", settings.state_dir), StopSign(), []
    for pitch in pitches:
        data = midi(pitch, seconds=0.1)
        digest = read_performance(data, MidiLimits.from_settings(settings)).sha256
        workshop.store_for_test.put(midi_object(digest), data)
        spec = RenderSpec(performance_sha256=digest, model_digest=model.digest, model_name="sine", audio_s=0.1)
        holds.append(Hold(Claim(spec.key, f"{pitch}:x", 9.0, spec, 1, PriorityClass.BULK, 0.0), sign))
    return holds


def test_one_that_is_cancelled_in_the_middle_of_a_batch_leaves_the_others_their_sound(
    workshop: Workshop, redis_settings: Settings
) -> None:
    alone = [outcome for _, outcome in map(one(workshop), holds_of(workshop, redis_settings, 60, 61, 62))]
    holds = holds_of(workshop, redis_settings, 60, 61, 62)
    holds[1].cancelled, holds[2].lost = False, False
    render = workshop.piano_for_test.render

    def cancel_on_the_way(*given: object, **named: object) -> object:
        holds[1].cancelled = True
        return render(*given, **named)

    workshop.piano_for_test.render = cancel_on_the_way
    outcomes = [outcome for _, outcome in workshop.render(holds)]
    assert isinstance(outcomes[1], Cancelled)
    assert [outcomes[i].wet.sha256 for i in (0, 2)] == [alone[i].wet.sha256 for i in (0, 2)]


def one(workshop: Workshop):
    def render(hold: Hold) -> tuple[Hold, object]:
        (found,) = workshop.render([hold])
        return found

    return render


def test_a_batch_that_nobody_waits_for_any_more_ends(workshop: Workshop, redis_settings: Settings) -> None:
    holds = holds_of(workshop, redis_settings, 60, 61)
    batch = workshop.piano_for_test.render_batch
    finished = []

    def lose_all(requests: object, *, progress: object) -> object:
        holds[0].cancelled = holds[1].lost = True
        made = batch(requests, progress=progress)
        finished.append(made)
        return made

    workshop.piano_for_test.render_batch = lose_all
    assert [type(outcome) for _, outcome in workshop.render(holds)] == [Cancelled, LeaseLost]
    assert finished == []


def test_a_batch_that_fails_as_a_whole_is_made_one_by_one(workshop: Workshop, redis_settings: Settings) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise MemoryError("the device has no room for all of them")

    workshop.piano_for_test.render_batch = too_large
    outcomes = [outcome for _, outcome in workshop.render(holds_of(workshop, redis_settings, 60, SILENT, 61))]
    assert [type(outcome) for outcome in outcomes] == [Made, QualityGateFailed, Made]


def test_a_worker_that_must_stop_hands_the_whole_batch_back(workshop: Workshop, redis_settings: Settings) -> None:
    holds = holds_of(workshop, redis_settings, 60, 61)
    batch = workshop.piano_for_test.render_batch

    def stop(requests: object, *, progress: object) -> object:
        holds[0]._sign.put_up(0.0)
        return batch(requests, progress=progress)

    workshop.piano_for_test.render_batch = stop
    assert [type(outcome) for _, outcome in workshop.render(holds)] == [Stopping, Stopping]
