"""Several renders in one step of the ledger: each has its own answer, and the counts that are written once are true."""

import random
from collections import Counter
from contextlib import suppress

import pytest
import redis
from ledger_values import request, result

from pianofarm_common.errors import Cancelled, LeaseLost
from pianofarm_common.ledger import Claim, JobTicket, Ledger, Refusal, new_id
from pianofarm_common.ledger.scripts import PREFIX
from pianofarm_common.renders import PriorityClass, RenderKey
from pianofarm_common.settings import Settings


def test_each_of_several_claimed_together_has_its_own_answer(ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(number) for number in range(5)])
    free, held, finished, cancelled, other = (ticket.key for ticket in tickets)
    assert isinstance(ledger.claim(held, "somebody else"), Claim)
    done = ledger.claim(finished, "somebody else")
    assert isinstance(done, Claim)
    ledger.commit(done.key, done.token, result(done.spec))
    ledger.cancel_job(tickets[3].job_id)
    unknown = RenderKey("0" * 64)
    first, *refused, last, again = ledger.claim_many([free, held, finished, cancelled, unknown, other, free], "worker")
    assert refused == [Refusal.HELD, Refusal.FINISHED, Refusal.CANCELLED, Refusal.UNKNOWN]
    assert again is Refusal.HELD  # the same twice is one
    assert isinstance(first, Claim)
    assert isinstance(last, Claim)
    assert (first.key, last.key) == (free, other)
    fences = [int(claim.token.partition(":")[0]) for claim in (done, first, last)]
    assert fences == sorted(set(fences))
    assert {ledger.render(key).attempts for key in (free, other)} == {1}


def test_each_of_several_committed_together_has_its_own_answer(ledger: Ledger) -> None:
    tickets = ledger.submit_many([request(number) for number in range(3)])
    claims = [claim for claim in ledger.claim_many([t.key for t in tickets], "worker") if isinstance(claim, Claim)]
    good, stale, _ = claims
    ledger.release(stale.key, stale.token)
    ledger.cancel_job(tickets[2].job_id)
    made = [(claim.key, claim.token, result(claim.spec)) for claim in claims]
    for _ in range(2):  # the second time as after a lost answer
        problems = ledger.commit_many(made)
        assert problems[0] is None
        assert isinstance(problems[1], LeaseLost)
        assert isinstance(problems[2], Cancelled)
    status = ledger.batch("batch")
    assert (status.done, status.queued, status.cancelled, status.final) == (1, 1, 1, False)
    assert [ledger.render(claim.key).result is not None for claim in claims] == [True, False, False]
    events = [event.kind for event in ledger.events("batch") if event.key == good.key]
    assert events == ["running", "done"]


def counted(client: redis.Redis) -> tuple[dict[str, int], dict[str, Counter[str]]]:
    """What `load` and the batches ought to say, from the renders and jobs themselves."""
    load: Counter[str] = Counter()
    for name in client.scan_iter(f"{PREFIX}render:*"):
        at, cls, ms = client.hmget(name, ["at", "cls", "ams"])
        if at:
            column = "l" if at == "l" else "q"
            load[f"n:{cls}:{column}"] += 1
            load[f"ms:{cls}:{column}"] += int(ms)
        if at == "q":
            load[f"pms:{cls}"] += int(ms)
    batches: dict[str, Counter[str]] = {}
    for name in client.scan_iter(f"{PREFIX}job:*"):
        key, batch, state = client.hmget(name, ["key", "batch", "st"])
        of_render = client.hget(f"{PREFIX}render:{key}", "st")
        columns = batches.setdefault(batch, Counter())
        columns["running" if (state or of_render) == "uploading" else state or of_render] += 1
        columns["total"] += 1
    return load, batches


def said(client: redis.Redis, batches: list[str]) -> tuple[dict[str, int], dict[str, Counter[str]]]:
    def numbers(name: str) -> Counter[str]:
        return Counter({field: int(value) for field, value in client.hgetall(name).items() if int(value) != 0})

    return numbers(f"{PREFIX}load"), {batch: numbers(f"{PREFIX}batch:{batch}") for batch in batches}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_counts_are_those_of_the_renders_whatever_happens_to_them(
    redis_settings: Settings, redis_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    short = redis_settings.model_copy(update={"lease_s": 0.1, "window_audio_s": 20.0, "max_attempts": 2})
    ledger, client = Ledger.from_settings(short), redis.Redis.from_url(redis_url, decode_responses=True)
    ledger.on_admitted = lambda _: None
    batches, tickets = [new_id() for _ in range(3)], list[JobTicket]()
    claims: list[Claim] = []

    def some(n_most: int) -> list[RenderKey]:
        return chance.sample(sorted({ticket.key for ticket in tickets}), chance.randint(1, n_most))

    def submit() -> None:
        asked = [
            request(chance.randrange(60), chance.choice(batches), chance.choice(list(PriorityClass)), owner=owner)
            for owner in chance.choices(["ann", "bob", ""], k=6)
        ]
        tickets.extend(ledger.submit_many(asked))

    def claim() -> None:
        claims.extend(got for got in ledger.claim_many(some(6), "worker@host:1") if isinstance(got, Claim))

    def commit() -> None:
        chosen = chance.sample(claims, min(len(claims), 4))
        if chosen:
            ledger.commit_many([(c.key, c.token, result(c.spec)) for c in chosen])

    def end() -> None:
        if claims:
            one = chance.choice(claims)
            with suppress(LeaseLost):
                ledger.progress(one.key, one.token, 0.5, uploading=chance.random() < 0.5)
                if chance.random() < 0.5:
                    ledger.fail(one.key, one.token, ValueError("x"), permanent=chance.random() < 0.3)
                else:
                    ledger.release(one.key, one.token)

    def cancel() -> None:
        ledger.cancel_job(chance.choice(tickets).job_id)

    def sweep() -> None:
        ledger.sweep(dict.fromkeys(PriorityClass, 0))

    def retry() -> None:
        ledger.retry(chance.choice(tickets).key)

    submit()
    for step in range(400):
        chance.choices([submit, claim, commit, end, cancel, sweep, retry], [3, 6, 4, 3, 1, 2, 1])[0]()
        if step % 20 == 19:
            asked = sorted({ticket.batch for ticket in tickets})
            load, of_batches = said(client, asked)
            expected, expected_batches = counted(client)
            assert load == expected
            assert of_batches == {batch: expected_batches[batch] for batch in asked}
            leased = {key for ticket in tickets if client.hget(f"{PREFIX}render:{(key := ticket.key)}", "at") == "l"}
            assert set(client.zrange(f"{PREFIX}leases", 0, -1)) == leased
    ledger.close()
    client.close()
