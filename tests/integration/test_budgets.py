"""Budgets against a real ledger: work stops at the limit, and nobody else's does."""

from collections.abc import Iterator

import pytest

from pianofarm.cli import run
from pianofarm.cli.budget import what_is_left
from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.ledger import Claim, JobRequest, JobTicket, Ledger, Refusal, new_id
from pianofarm_common.ledger.budgets import Budgets, Payer
from pianofarm_common.metrics import WorkerMetrics
from pianofarm_common.renders import RenderSpec, State
from pianofarm_common.settings import Settings
from pianofarm_worker.metering import MeteredLedger, MeteredMaker
from pianofarm_worker.pulse import Hold
from pianofarm_worker.stopping import StopSign


@pytest.fixture
def budgets(ledger: Ledger, redis_settings: Settings) -> Iterator[Budgets]:
    budgets = Budgets.from_settings(ledger, redis_settings)
    yield budgets
    budgets.close()


@pytest.fixture
def worker(redis_settings: Settings) -> Iterator[MeteredLedger]:
    """The ledger as a worker has it."""
    worker = MeteredLedger.watched_by(WorkerMetrics(), redis_settings)
    yield worker
    worker.budgets.close()
    worker.close()


def submit(ledger: Ledger, number: int, batch: str = "", owner: str = "") -> JobTicket:
    spec = RenderSpec(performance_sha256=f"{number:064x}", model_digest="a" * 64, model_name="default", audio_s=60.0)
    (ticket,) = ledger.submit_many([JobRequest(spec=spec, batch=batch or new_id(), owner=owner)])
    return ticket


def test_a_batch_that_used_its_budget_is_cancelled_with_the_reason(ledger, budgets, worker):
    batch = new_id()
    budgets.set(Payer("batch", batch), 10.0)
    first, second = (submit(ledger, number, batch) for number in (1, 2))

    assert isinstance(worker.claim(first.key, "w"), Claim)
    budgets.charge(first.key, 10.5)
    assert worker.claim(second.key, "w") is Refusal.CANCELLED

    job = ledger.job(second.job_id)
    assert job.state is State.CANCELLED
    assert f"the budget of batch {batch} is used up: 10.5 of 10.0 s" in job.error
    assert ledger.job(first.job_id).state is State.RUNNING


def test_who_has_no_budget_still_gets_the_render(ledger, budgets, worker):
    poor = submit(ledger, 1, owner="poor")
    rich = submit(ledger, 1, owner="rich")
    budgets.set(Payer("owner", "poor"), 0.0)

    assert isinstance(worker.claim(poor.key, "w"), Claim)
    assert ledger.job(poor.job_id).state is State.CANCELLED
    assert ledger.job(rich.job_id).state is State.RUNNING


def test_those_who_wait_for_one_render_share_its_price(ledger, budgets):
    for owner in ("a", "b"):
        submit(ledger, 1, owner=owner)
        budgets.set(Payer("owner", owner), 100.0)
    budgets.charge(submit(ledger, 1, owner="without").key, 9.0)

    assert budgets.get(Payer("owner", "a")).spent_s == 3.0
    assert budgets.get(Payer("owner", "b")).spent_s == 3.0
    assert budgets.get(Payer("owner", "without")) is None


def test_an_owner_pays_over_all_batches_and_a_raised_budget_goes_on(ledger, budgets, worker):
    payer = Payer("owner", "somebody")
    budgets.set(payer, 5.0)
    budgets.charge(submit(ledger, 1, owner="somebody").key, 3.0)
    budgets.charge(submit(ledger, 2, owner="somebody").key, 3.0)
    assert worker.claim(submit(ledger, 3, owner="somebody").key, "w") is Refusal.CANCELLED
    budgets.set(payer, 50.0)

    assert budgets.get(payer).spent_s == 6.0
    again = submit(ledger, 3, owner="somebody")
    assert isinstance(worker.claim(again.key, "w"), Claim)


def test_failed_attempts_are_charged(ledger, budgets, worker):
    class Failing:
        def render(self, holds):
            yield from ((hold, ServiceUnavailable("the store is away")) for hold in holds)

    batch = new_id()
    budgets.set(Payer("batch", batch), 100.0)
    ticket = submit(ledger, 1, batch)
    claim = worker.claim(ticket.key, "w")
    charged = []
    worker.budgets.charge = lambda key, worker_s: charged.append((key, worker_s))
    maker = MeteredMaker(Failing(), WorkerMetrics(), "cpu", worker.budgets)
    ((_, outcome),) = maker.render([Hold(claim, StopSign())])
    assert isinstance(outcome, ServiceUnavailable)

    ((key, worker_s),) = charged
    assert key == ticket.key
    assert worker_s >= 0.0


def test_a_removed_budget_limits_nobody(ledger, budgets, worker):
    budgets.set(Payer("owner", "x"), 0.0)
    assert budgets.remove(Payer("owner", "x")) is True
    assert budgets.remove(Payer("owner", "x")) is False

    assert isinstance(worker.claim(submit(ledger, 1, owner="x").key, "w"), Claim)


def test_budgets_are_set_and_shown_on_the_command_line(ledger, redis_settings, monkeypatch, capsys):
    monkeypatch.setenv("PIANOFARM_REDIS_URL", redis_settings.redis_url.get_secret_value())
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(redis_settings.state_dir))
    assert run(["budget", "set", "owner", "me", "--price", "2"]) == 2
    assert "PIANOFARM_WORKER_PRICE_PER_H" in capsys.readouterr().err
    monkeypatch.setenv("PIANOFARM_WORKER_PRICE_PER_H", "0.5")

    assert run(["budget", "set", "owner", "me", "--price", "2"]) == 0
    assert run(["budget", "show", "owner", "me"]) == 0
    assert "0.0 of 14400.0 s of worker time (0.0000 of 2.0000)" in capsys.readouterr().out
    assert run(["budget", "remove", "owner", "me"]) == 0
    assert run(["budget", "show", "owner", "me"]) == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["owner", "me", "--worker-hours", "inf"], "for no limit, remove the budget"),
        (["owner", "", "--worker-hours", "1"], "needs the name of its owner"),
        (["batch", "nosuch", "--worker-hours", "1"], "nosuch"),
    ],
)
def test_a_budget_that_would_limit_nothing_is_refused(redis_settings, monkeypatch, capsys, arguments, why):
    monkeypatch.setenv("PIANOFARM_REDIS_URL", redis_settings.redis_url.get_secret_value())
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(redis_settings.state_dir))

    assert run(["budget", "set", *arguments]) == 2

    assert why in capsys.readouterr().err


def test_an_estimate_says_whether_the_budgets_are_enough(ledger, budgets, redis_settings):
    budgets.set(Payer("owner", "me"), 10.0)
    ticket = submit(ledger, 1, owner="me")
    budgets.charge(ticket.key, 4.0)
    priced = redis_settings.model_copy(update={"worker_price_per_h": 3600.0})

    assert what_is_left(priced, 2.5, "me") == {"this batch": 2.5, "owner me": 6.0}
    assert what_is_left(priced, None, "somebody else") == {}
