"""A producer of one owner, by its own user in a real Redis: it ends a batch that an operator paused, and asks for webhooks."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from deployed import Deployed
from ledger_values import request, result

from pianofarm_common.ledger import Claim, Ledger, new_id
from pianofarm_common.ledger.callbacks import Callbacks
from pianofarm_common.ledger.switches import Switches
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.settings import Settings

NOTHING = dict.fromkeys(PriorityClass, 0)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Settings]]:
    """Of a user of Redis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PIANOFARM_REDIS_URL", raising=False)
        server = Deployed(tmp_path_factory.mktemp("deployed"))
        server.add_owner("alice")
        yield lambda user: server.settings_of(user, tmp_path_factory.mktemp(user))
        server.stop()


def test_an_owner_ends_a_batch_that_is_paused_and_the_sweep_takes_its_switch_away(
    settings: Callable[[str], Settings],
) -> None:
    with contextlib.ExitStack() as stack:
        alice, sweeper = (
            stack.enter_context(contextlib.closing(Ledger.from_settings(settings(user))))
            for user in ("producer.alice", "sweeper")
        )
        switches = stack.enter_context(contextlib.closing(Switches.from_settings(settings("pianofarm"))))
        batch, other = new_id("alice"), new_id("alice")
        (ticket,) = alice.submit_many([replace(request(1, batch), owner="alice", job_id=new_id("alice"))])
        alice.submit_many([replace(request(2, other), owner="alice", job_id=new_id("alice"))])
        for name in (batch, other, "no-such-batch"):
            switches.turn("pause", "batch", name)
        assert alice.cancel_job(ticket.job_id) is State.CANCELLED
        sweeper.sweep(NOTHING)
        assert [switch.name for switch in switches.all()] == [other]
        switches.resume("batch", other)


def test_an_owner_asks_for_webhooks_of_jobs_that_a_worker_ends(settings: Callable[[str], Settings]) -> None:
    with contextlib.ExitStack() as stack:
        alice, worker = (
            stack.enter_context(contextlib.closing(Ledger.from_settings(settings(user))))
            for user in ("producer.alice", "worker")
        )
        asking, telling = (
            stack.enter_context(contextlib.closing(Callbacks.from_settings(settings(user))))
            for user in ("producer.alice", "sweeper")
        )
        batch = new_id("alice")
        made, cancelled = alice.submit_many(
            [replace(request(number, batch), owner="alice", job_id=new_id("alice")) for number in (3, 4)]
        )
        asking.ask(batch, "https://example.org/hook", [])
        assert alice.cancel_job(cancelled.job_id) is State.CANCELLED
        asking.ask(batch, "https://example.org/hook", [cancelled.job_id])
        claim = worker.claim(made.key, "w")
        assert isinstance(claim, Claim)
        worker.commit(claim.key, claim.token, result(claim.spec))
        calls = telling.take(10, 60.0)
        assert {call.job_id for call in calls} == {made.job_id, cancelled.job_id}
        for call in calls:
            telling.forget(call)
        assert telling.url(batch) == "https://example.org/hook"
