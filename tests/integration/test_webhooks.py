"""Webhooks from the end of a job to a receiver on a real socket, with a real ledger."""

import contextlib
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator

import pytest
import redis
from ledger_values import request, result
from pydantic import SecretStr
from services import wait_until

from pianofarm import Farm
from pianofarm_common.errors import BadOption, NotFound
from pianofarm_common.ledger import Claim, JobTicket, Ledger
from pianofarm_common.ledger.callbacks import Callbacks
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings
from pianofarm_worker import webhooks
from pianofarm_worker.webhooks import TRIES, Teller

OLD, NEW = "old-key-" + "0" * 32, "new-key-" + "1" * 32


class Receiver(http.server.BaseHTTPRequestHandler):
    """Notes what it gets, and answers with the next of `statuses`, then with 204."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers["Pianofarm-Signature"], body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got, server.statuses = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def tellers(ledger: Ledger, redis_settings: Settings) -> Iterator[list[Teller]]:
    """Two of them, as two sweepers are."""
    settings = redis_settings.model_copy(
        update={"webhook_keys": SecretStr(f"{NEW},{OLD}"), "webhook_allow_private": True}
    )
    callbacks = [Callbacks.from_settings(settings) for _ in range(2)]
    tellers = [Teller(ledger, one, settings) for one in callbacks]
    assert [teller.step() for teller in tellers] == [0, 0]
    yield tellers
    for one in callbacks:
        one.close()


@pytest.fixture
def farm(redis_settings: Settings) -> Iterator[Farm]:
    with Farm(redis_settings) as farm:
        yield farm


def finish(ledger: Ledger, ticket: JobTicket) -> None:
    claim = ledger.claim(ticket.key, "w")
    assert isinstance(claim, Claim)
    ledger.commit(claim.key, claim.token, result(claim.spec))


def rounds(tellers: list[Teller], n: int = 4) -> None:
    for _ in range(n):
        for teller in tellers:
            teller.step()


def test_whoever_asked_is_told_of_every_end_once_and_can_check_who_speaks(farm, ledger, tellers, receiver):
    before, after, other = ledger.submit_many([request(1, "b"), request(2, "b"), request(3, "other")])
    finish(ledger, before)
    farm.call_back("b", receiver.url)
    finish(ledger, after)
    finish(ledger, other)
    rounds(tellers)
    told = {json.loads(body)["job"]: json.loads(body) for _, body in receiver.got}
    assert len(receiver.got) == 2
    assert set(told) == {before.job_id, after.job_id}
    assert told[after.job_id]["state"] == "done"
    assert told[after.job_id]["audio_sha256"] == "b" * 64
    for header, body in receiver.got:
        at, *signatures = (part.partition("=")[2] for part in header.split(","))
        assert signatures == [
            hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest() for key in (NEW, OLD)
        ]


def test_a_cancelled_and_a_failed_job_are_told_with_their_reasons(farm, ledger, tellers, receiver):
    failed, cancelled = ledger.submit_many([request(1, "b"), request(2, "b")])
    farm.call_back("b", receiver.url)
    ledger.cancel_job(cancelled.job_id)
    claim = ledger.claim(failed.key, "w")
    ledger.fail(claim.key, claim.token, ValueError("no such note"), permanent=True)
    rounds(tellers)
    told = {json.loads(body)["job"]: json.loads(body) for _, body in receiver.got}
    assert (told[failed.job_id]["state"], told[failed.job_id]["error"]) == ("failed", "no such note")
    assert told[cancelled.job_id]["state"] == "cancelled"


def test_a_receiver_that_is_away_is_told_later_and_not_for_ever(farm, ledger, tellers, receiver, monkeypatch):
    monkeypatch.setattr(webhooks, "FIRST_WAIT_S", 0.0)
    receiver.statuses[:] = [500, 302, 404]
    first, second = ledger.submit_many([request(1, "b"), request(2, "c")])
    farm.call_back("b", receiver.url)
    finish(ledger, first)
    rounds(tellers)
    assert len(receiver.got) == 4
    receiver.statuses[:] = [503] * 100
    farm.call_back("c", receiver.url)
    finish(ledger, second)
    rounds(tellers, TRIES)
    assert len(receiver.got) == 4 + TRIES


def test_an_address_that_is_not_public_is_not_told_unless_that_is_allowed(farm, ledger, redis_settings, receiver):
    settings = redis_settings.model_copy(update={"webhook_keys": SecretStr(NEW)})
    callbacks = Callbacks.from_settings(settings)
    teller = Teller(ledger, callbacks, settings)
    teller.step()
    (ticket,) = ledger.submit_many([request(1, "b")])
    farm.call_back("b", receiver.url)
    finish(ledger, ticket)
    assert teller.step() == 1
    assert teller.step() == 0
    assert receiver.got == []
    callbacks.close()


def test_what_no_webhook_can_be_is_refused_when_it_is_asked_for(farm, ledger):
    ledger.submit_many([request(1, "b")])
    with pytest.raises(BadOption, match="https://HOST/PATH"):
        farm.call_back("b", "file:///etc/passwd")
    with pytest.raises(NotFound):
        farm.call_back("no-such-batch", "https://example.org/")


def test_nothing_stays_in_redis_of_what_was_told(farm, ledger, tellers, receiver, redis_settings):
    (ticket,) = ledger.submit_many([request(1, "b")])
    farm.call_back("b", receiver.url)
    finish(ledger, ticket)
    rounds(tellers)
    with redis.Redis.from_url(redis_settings.redis_url.get_secret_value(), decode_responses=True) as client:
        assert not client.exists("{pianofarm}:calls", "{pianofarm}:calltries")
        assert 0 < client.ttl("{pianofarm}:callback:b") <= redis_settings.ledger_ttl_s


def test_every_end_is_told_however_few_events_the_farm_keeps(redis_settings):
    settings = redis_settings.model_copy(update={"events_max_length": 10})
    with contextlib.closing(Ledger.from_settings(settings)) as ledger:
        callbacks = Callbacks.from_settings(settings)
        tickets = ledger.submit_many([request(number, "b") for number in range(600)])
        callbacks.ask("b", "https://example.org/hook", [])
        for first in range(0, 600, 50):
            claims = ledger.claim_many([ticket.key for ticket in tickets[first : first + 50]], "w")
            ledger.commit_many([(claim.key, claim.token, result(claim.spec)) for claim in claims])
        taken = callbacks.take(1000, 60.0)
        assert {call.job_id for call in taken} == {ticket.job_id for ticket in tickets}
        callbacks.close()


def test_an_address_lives_as_long_as_its_batch_and_calls_as_long_as_their_jobs(redis_settings):
    settings = redis_settings.model_copy(update={"ledger_ttl_s": 1})
    client = redis.Redis.from_url(redis_settings.redis_url.get_secret_value(), decode_responses=True)
    with contextlib.closing(client), contextlib.closing(Ledger.from_settings(settings)) as ledger:
        callbacks = Callbacks.from_settings(settings)
        (ticket,) = ledger.submit_many([request(1, "b")])
        callbacks.ask("b", "https://example.org/hook", [])
        assert client.ttl("{pianofarm}:callback:b") == -1
        finish(ledger, ticket)
        assert client.zrange("{pianofarm}:calls", 0, -1) == [ticket.job_id]
        assert 0 <= client.pttl("{pianofarm}:callback:b") <= 1000
        wait_until(lambda: not client.exists(f"{{pianofarm}}:job:{ticket.job_id}"), "the end of the job's time")
        ledger.sweep(dict.fromkeys(PriorityClass, 0))
        wait_until(lambda: not client.exists("{pianofarm}:callback:b"), "the end of the batch's time")
        ledger.sweep(dict.fromkeys(PriorityClass, 0))
        assert not client.exists("{pianofarm}:calls", "{pianofarm}:calltries")
        callbacks.close()


def test_an_end_while_an_earlier_one_is_told_is_told_too(ledger, redis_settings):
    callbacks = Callbacks.from_settings(redis_settings)
    (ticket,) = ledger.submit_many([request(1, "b")])
    callbacks.ask("b", "https://example.org/hook", [])
    claim = ledger.claim(ticket.key, "w")
    ledger.fail(claim.key, claim.token, ValueError("x"), permanent=True)
    (first,) = callbacks.take(10, 60.0)
    ledger.retry(ticket.key)
    finish(ledger, ticket)
    callbacks.forget(first)
    (second,) = callbacks.take(10, 60.0)
    callbacks.forget(second)
    assert second.job_id == ticket.job_id
    assert callbacks.take(10, 60.0) == []
    callbacks.close()
