"""`pianofarm top` and `pianofarm quarantine` against a real ledger."""

import json
from collections.abc import Iterator

import pytest
from rich.console import Console
from services import wait_until

from pianofarm.cli import run
from pianofarm.cli.top import picture
from pianofarm.live import LiveFarm
from pianofarm_common.ledger import Claim, JobRequest, Ledger, WorkerInfo, new_id
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.renders import PriorityClass, RenderResult, RenderSpec, State
from pianofarm_common.settings import Settings


def request(number: int, audio_s: float = 60.0) -> JobRequest:
    spec = RenderSpec(performance_sha256=f"{number:064x}", model_digest="a" * 64, model_name="default", audio_s=audio_s)
    return JobRequest(spec=spec, batch=new_id(), priority=PriorityClass.BULK)


def make(ledger: Ledger, number: int, render_s: float) -> None:
    (ticket,) = ledger.submit_many([request(number)])
    claim = ledger.claim(ticket.key, "w1")
    assert isinstance(claim, Claim)
    ledger.commit(
        claim.key,
        claim.token,
        RenderResult(
            key=claim.key,
            spec=claim.spec,
            audio_key="audio",
            audio_sha256="0" * 64,
            audio_bytes=1,
            audio_s=60.0,
            sample_rate_hz=24_000,
            channels=1,
            loudness_lufs=None,
            peak_dbfs=-1.0,
            notes=1,
            dropped_notes=0,
            render_s=render_s,
            worker="w1",
        ),
    )


@pytest.fixture
def taker(redis_settings: Settings) -> Iterator[CensusTaker]:
    taker = CensusTaker.from_settings(redis_settings)
    yield taker
    taker.close()


@pytest.fixture
def environment(redis_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIANOFARM_REDIS_URL", redis_settings.redis_url.get_secret_value())
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(redis_settings.state_dir))
    monkeypatch.setenv("PIANOFARM_LEASE_S", "0.5")
    monkeypatch.setenv("PIANOFARM_MAX_ATTEMPTS", "1")


def test_a_look_shows_the_past_and_what_happens_meanwhile(ledger: Ledger, taker: CensusTaker) -> None:
    ledger.register_worker(WorkerInfo("w1", "host", 1, "gpu:0", "tensorflow", 0.0))
    make(ledger, 1, render_s=2.0)
    live = LiveFarm(ledger, taker, assumed_speed=10.0)
    make(ledger, 2, render_s=4.0)
    waiting = ledger.submit_many([request(3), request(4)])
    ledger.submit_many([request(2)])
    claim = ledger.claim(waiting[0].key, "w1")
    assert isinstance(claim, Claim)
    ledger.progress(claim.key, claim.token, 0.25)
    ledger.register_worker(WorkerInfo("w1", "host", 1, "gpu:0", "tensorflow", 0.0, key=claim.key, renders_done=2))

    seen = live.look()

    assert seen.speed == 20.0  # 120 s of audio in 6 s
    assert seen.audio_s_per_s == 2.0  # 120 s of audio within the last minute; the cache hit is none
    assert seen.drain_s == 6.0  # 120 s of audio wait or run
    assert [render.result.render_s for render in seen.slowest if render.result] == [4.0, 2.0]
    (at_work,) = seen.at_work
    assert at_work.render is not None
    assert at_work.render.fraction == 0.25


def test_what_is_seen_is_drawn(ledger: Ledger, taker: CensusTaker) -> None:
    make(ledger, 1, render_s=2.0)
    (ticket,) = ledger.submit_many([request(3)])
    ledger.register_worker(WorkerInfo("cpu0@here", "host", 1, "cpu", "tensorflow", 0.0, key=ticket.key))
    console = Console(record=True, width=160)
    console.print(picture(LiveFarm(ledger, taker, 10.0).look()))
    text = console.export_text()

    assert "cpu0@here" in text
    assert ticket.key[:12] in text
    assert "1:00.0" in text


def test_elsewhere_than_on_a_terminal_top_looks_once(ledger: Ledger, environment: None, capsys) -> None:
    ledger.submit_many([request(3)])

    assert run(["top"]) == 0
    assert "no worker is alive" in capsys.readouterr().out
    assert run(["top", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queues"]["bulk"]["depth"]["queued_renders"] == 1


def test_a_render_in_quarantine_is_listed_and_tried_again(redis_settings: Settings, environment: None, capsys) -> None:
    impatient = redis_settings.model_copy(update={"lease_s": 0.5, "max_attempts": 1})
    ledger = Ledger.from_settings(impatient)
    (ticket,) = ledger.submit_many([request(1)])
    assert isinstance(ledger.claim(ticket.key, "unlucky"), Claim)

    def swept() -> bool:
        ledger.sweep({})
        return ledger.render(ticket.key).state is State.QUARANTINED

    wait_until(swept, "the lease to lapse")
    assert run(["quarantine", "list"]) == 0
    shown = capsys.readouterr().out
    assert ticket.key in shown
    assert "unlucky" in shown

    assert run(["quarantine", "retry", "--all"]) == 0
    assert "queued again" in capsys.readouterr().out
    assert ledger.render(ticket.key).state is State.QUEUED
    assert run(["quarantine", "retry", ticket.key]) == 0
    assert "left as it is" in capsys.readouterr().out
    ledger.close()


def test_retrying_everything_and_something_at_once_is_refused(environment: None) -> None:
    assert run(["quarantine", "retry"]) == 2
    assert run(["quarantine", "retry", "--all", "a" * 64]) == 2


def test_parked_messages_are_shown_with_their_reason(ledger: Ledger, environment: None, capsys) -> None:
    ledger.park('{"v": 9}', "message version 9 is not known here")

    assert run(["quarantine", "parked", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["message"] == '{"v": 9}'
