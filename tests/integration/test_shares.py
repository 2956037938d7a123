"""Owners share a class by weight, in audio-seconds, on a real Redis: in the order of publication, and in a farm that is drained."""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import closing

import pytest
from farm import SineFarm, make_model, midi
from ledger_values import result, spec
from pydantic import SecretStr

from pianofarm import Farm
from pianofarm_common.errors import BadOption
from pianofarm_common.ledger import Claim, JobRequest, JobTicket, Ledger, Publication, Refusal, WorkerInfo
from pianofarm_common.ledger.shares import Share, Shares
from pianofarm_common.ledger.switches import Switches
from pianofarm_common.renders import PriorityClass, RenderKey
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

FULL = dict.fromkeys(PriorityClass, 1000)
WINDOW_S = 100.0


@pytest.fixture
def redis_settings(redis_settings: Settings) -> Settings:
    return redis_settings.model_copy(update={"window_audio_s": WINDOW_S, "lease_s": 60.0})


@pytest.fixture
def shares(redis_settings: Settings) -> Iterator[Shares]:
    with closing(Shares.from_settings(redis_settings)) as shares:
        yield shares


class Drain:
    """A broker's queue and one worker that makes everything in it at once."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.queue: deque[RenderKey] = deque()
        self.done: list[RenderKey] = []
        ledger.on_admitted = lambda publication: self.queue.extend(publication.keys)

    def publish(self, tickets: list[JobTicket]) -> list[JobTicket]:
        self.queue.extend(ticket.key for ticket in tickets if ticket.needs_message)
        return tickets

    def make_one(self) -> RenderKey:
        key = self.queue.popleft()
        got = self.ledger.claim(key, "worker")
        assert isinstance(got, Claim)
        self.ledger.commit(got.key, got.token, result(got.spec))
        self.done.append(key)
        return key


def asked(owner: str, first: int, n_renders: int, audio_s: float = 10.0, **more: object) -> list[JobRequest]:
    numbers = range(first, first + n_renders)
    values = {"batch": owner or "nobody", "owner": owner, "priority": PriorityClass.BULK} | more
    return [JobRequest(spec=spec(number, audio_s), **values) for number in numbers]


def test_what_there_is_room_for_is_published_at_once(ledger: Ledger) -> None:
    tickets = ledger.submit_many(asked("a", 0, 9))
    assert all(ticket.needs_message for ticket in tickets)
    assert ledger.sweep(FULL) == []


def test_ten_thousand_files_of_one_owner_hold_the_one_file_of_another_up_by_a_window_at_most(ledger: Ledger) -> None:
    drain = Drain(ledger)
    drain.publish(ledger.submit_many(asked("many", 0, 10_000)))
    assert len(drain.queue) == WINDOW_S / 10.0
    assert ledger.depth(PriorityClass.BULK).queued_renders == 10_000
    for _ in range(20):
        drain.make_one()
    (one,) = drain.publish(ledger.submit_many(asked("one", 10_000, 1)))
    before = len(drain.done)
    while drain.make_one() != one.key:
        pass
    assert len(drain.done) - before <= WINDOW_S / 10.0 + 1
    assert len(drain.queue) <= WINDOW_S / 10.0


@pytest.mark.parametrize("seed", range(4))
def test_while_they_wait_owners_get_audio_by_their_weights(ledger: Ledger, shares: Shares, seed: int) -> None:
    """The bound is that of the paper, theorem 1: two owners differ by at most one longest render each, by weight."""
    chance = random.Random(seed)
    weights = {name: chance.choice([0.5, 1.0, 2.0, 3.0]) for name in "abc"}
    requests = []
    for name, weight in weights.items():
        shares.set_weight(name, weight)
        longest_s = chance.choice([3.0, 20.0, 60.0])
        for number in range(80):
            audio_s = chance.uniform(0.5, longest_s)
            requests += asked(name, ord(name) * 1000 + number, 1, audio_s)
    chance.shuffle(requests)
    owner = {request.spec.key: request.owner for request in requests}
    length_s = {request.spec.key: round(request.spec.audio_s, 3) for request in requests}
    left, served = dict.fromkeys(weights, 80), dict.fromkeys(weights, 0.0)
    worst_s = {name: max(length_s[key] for key in owner if owner[key] == name) / weights[name] for name in weights}
    drain = Drain(ledger)
    published = [ticket.key for ticket in drain.publish(ledger.submit_many(requests)) if ticket.needs_message]
    for key in published:
        left[owner[key]] -= 1
    n_compared = 0
    while min(left.values()) > 0:
        before = len(drain.queue)
        drain.make_one()
        # Within one admission bulk goes longest first, so only whole admissions are compared.
        if len(drain.queue) < before:
            continue
        for key in list(drain.queue)[before - 1 :]:
            left[owner[key]] -= 1
            served[owner[key]] += length_s[key]
        if min(left.values()) <= 0:
            break
        n_compared += 1
        shared_s = {name: served[name] / weights[name] for name in weights}
        for one in weights:
            for other in weights:
                assert shared_s[one] - shared_s[other] <= worst_s[one] + worst_s[other] + 0.01
    assert n_compared > 3


def test_a_newcomer_is_published_at_once_where_there_is_room_though_others_wait(ledger: Ledger) -> None:
    tickets = ledger.submit_many(asked("many", 0, 100))
    for ticket in tickets[:3]:
        assert isinstance(ledger.claim(ticket.key, "worker"), Claim)
    assert [ticket.needs_message for ticket in ledger.submit_many(asked("many", 100, 2))] == [False, False]
    assert [ticket.needs_message for ticket in ledger.submit_many(asked("new", 200, 3))] == [True, True, False]


def test_owners_who_are_paused_hold_nobody_up(ledger: Ledger, redis_settings: Settings) -> None:
    ledger.submit_many(asked("paused", 0, 11))
    with closing(Switches.from_settings(redis_settings)) as switches:
        switches.turn("pause", "owner", "paused")
    for ticket in ledger.submit_many(asked("paused", 0, 3, batch="again")):
        assert ledger.claim(ticket.key, "worker") is Refusal.PAUSED
    assert [ticket.needs_message for ticket in ledger.submit_many(asked("other", 100, 3))] == [True, True, True]


def test_a_render_that_two_owners_wait_for_is_made_at_the_earlier_turn(ledger: Ledger) -> None:
    drain = Drain(ledger)
    tickets = drain.publish(ledger.submit_many(asked("many", 0, 500)))
    ledger.submit_many(asked("one", 499, 1))
    while drain.make_one() != tickets[499].key:
        pass
    assert len(drain.done) < 50


def test_more_urgent_work_leaves_its_lane(ledger: Ledger) -> None:
    tickets = ledger.submit_many(asked("a", 0, 50))
    (raised,) = ledger.submit_many(asked("b", 49, 1, priority=PriorityClass.INTERACTIVE))
    assert (raised.key, raised.needs_message) == (tickets[49].key, True)
    assert ledger.depth(PriorityClass.BULK).queued_renders == 49


def test_nothing_is_left_when_everything_is_made_or_cancelled(
    ledger: Ledger, shares: Shares, redis_settings: Settings
) -> None:
    drain = Drain(ledger)
    for number in range(3):
        drain.publish(ledger.submit_many(asked(f"owner {number}", 100 * number, 60)))
    assert [share.owner for share in shares.all()] == ["owner 0", "owner 1", "owner 2"]
    ledger.cancel_batch("owner 1")
    for _ in range(10):
        ledger.submit_many(asked("owner 2", 200, 60))  # known already
    n_made = 0
    while drain.queue or n_made < 110:
        if not drain.queue:
            for publication in ledger.sweep(FULL):
                drain.queue.extend(publication.keys)
        key = drain.queue.popleft()
        if isinstance(got := ledger.claim(key, "worker"), Claim):
            ledger.commit(got.key, got.token, result(got.spec))
            n_made += 1
    assert n_made == 120
    assert shares.all() == []
    assert ledger.depth(PriorityClass.BULK).queued_audio_s == 0.0
    assert int(ledger._redis.hget("{pianofarm}:load", "pms:bulk")) == 0
    assert not [key for key in ledger._redis.scan_iter("{pianofarm}:*") if "lane:" in key or "turns:" in key]


def test_a_sweep_publishes_what_no_claim_did_and_every_worker_widens_the_window(ledger: Ledger) -> None:
    ledger.submit_many(asked("a", 0, 100))
    for name in ("one", "two", "three"):
        ledger.register_worker(WorkerInfo(name=name, host="h", pid=1, device="cpu", backend="none", started_at=1.0))
    (found,) = ledger.sweep(FULL)
    assert isinstance(found, Publication)
    assert (len(found.keys), found.spread) == (20, 6)
    assert ledger.sweep(FULL) == []


def test_a_message_that_was_lost_while_others_wait_is_published_again(redis_settings: Settings) -> None:
    with closing(Ledger.from_settings(redis_settings.model_copy(update={"lost_message_s": 0.5}))) as ledger:
        first = ledger.submit_many(asked("a", 0, 100))[:10]
        found: set[RenderKey] = set()
        while not found:
            found = {key for publication in ledger.sweep(dict.fromkeys(PriorityClass, 0)) for key in publication.keys}
        assert found == {ticket.key for ticket in first}


def test_weights_are_listed_and_checked(shares: Shares) -> None:
    shares.set_weight("studio", 2)
    assert shares.all() == [Share("studio", 2.0, {})]
    for wrong in (0.0, -1.0, 1e9, float("nan")):
        with pytest.raises(BadOption, match="studio"):
            shares.set_weight("studio", wrong)
    assert shares.remove_weight("studio")
    assert not shares.remove_weight("studio")


def test_a_farm_that_is_drained_gives_two_to_one(
    settings: Settings, s3_store: S3BlobStore, shares: Shares, tmp_path, redis_url: str
) -> None:
    settings = settings.model_copy(
        update={"model": "sine", "redis_url": SecretStr(redis_url), "window_audio_s": 2.0, "sweep_interval_s": 0.5}
    )
    make_model(settings.state_dir)
    shares.set_weight("double", 2.0)
    processes = SineFarm(settings, tmp_path)
    try:
        with Farm(settings) as farm:
            batches = {
                owner: farm.submit_many([midi(pitch, velocity=velocity) for pitch in range(30, 70)], owner=owner)
                for owner, velocity in (("single", 70), ("double", 71))
            }
            processes.sweeper()
            processes.worker()
            for batch in batches.values():
                assert batch.wait(timeout_s=240).done == 40
            ours = {batch.id: owner for owner, batch in batches.items()}
            done = [
                ours[event.batch] for event in farm.services.ledger.events(None, count=10_000) if event.kind == "done"
            ]
    finally:
        processes.stop_all()
    # The first window was the first owner's alone; then two of one for one of the other, until that one has no more.
    shared = done[6:54]
    assert 28 <= shared.count("double") <= 36
