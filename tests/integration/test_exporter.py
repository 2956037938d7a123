"""The exporter against a real Redis: what it says of the farm is what the ledger holds."""

import threading
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from services import free_port, wait_until

from pianofarm_common.errors import BadMidi, ServiceUnavailable
from pianofarm_common.ledger import Claim, JobRequest, JobTicket, Ledger, WorkerInfo, new_id
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.ledger.switches import Switches
from pianofarm_common.renders import PriorityClass, RenderOptions, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_worker import exporter
from pianofarm_worker.exporter import FarmCollector
from pianofarm_worker.follower import Follower


def spec(number: int, audio_s: float = 10.0, model: str = "default") -> RenderSpec:
    return RenderSpec(
        performance_sha256=f"{number:064x}",
        model_digest="a" * 64,
        model_name=model,
        options=RenderOptions(),
        audio_s=audio_s,
    )


def request(number: int, priority: PriorityClass = PriorityClass.STANDARD, audio_s: float = 10.0) -> JobRequest:
    return JobRequest(spec=spec(number, audio_s), batch=new_id(), priority=priority)


def made(claim: Claim, render_s: float = 2.0, worker: str = "w1") -> RenderResult:
    return RenderResult(
        key=claim.key,
        spec=claim.spec,
        audio_key="audio",
        audio_sha256="0" * 64,
        audio_bytes=1,
        audio_s=claim.spec.audio_s,
        sample_rate_hz=24_000,
        channels=1,
        loudness_lufs=None,
        peak_dbfs=-1.0,
        notes=1,
        dropped_notes=0,
        queue_s=claim.queue_s,
        render_s=render_s,
        upload_s=0.5,
        worker=worker,
    )


def claimed(ledger: Ledger, ticket: JobTicket, worker: str = "w1") -> Claim:
    claim = ledger.claim(ticket.key, worker)
    assert isinstance(claim, Claim)
    return claim


@pytest.fixture
def taker(redis_settings: Settings) -> Iterator[CensusTaker]:
    taker = CensusTaker.from_settings(redis_settings)
    yield taker
    taker.close()


@pytest.fixture
def follower(ledger: Ledger, taker: CensusTaker, redis_settings: Settings) -> Follower:
    follower = Follower(ledger, taker, redis_settings)
    follower.metrics.registry.register(FarmCollector(ledger, taker, follower.speedometer))
    return follower


def value(follower: Follower, name: str, **labels: str) -> float:
    found = follower.metrics.registry.get_sample_value(name, {key.rstrip("_"): text for key, text in labels.items()})
    assert found is not None, f"no sample {name}{labels}"
    return found


def test_waiting_and_leased_audio_are_told_apart_by_class(ledger: Ledger, follower: Follower) -> None:
    tickets = ledger.submit_many([request(n, PriorityClass.BULK, audio_s=30.0) for n in range(3)])
    claimed(ledger, tickets[0])

    assert value(follower, "pianofarm_queue_renders", class_="bulk") == 2
    assert value(follower, "pianofarm_queue_audio_seconds", class_="bulk") == 60.0
    assert value(follower, "pianofarm_leased_renders", class_="bulk") == 1
    assert value(follower, "pianofarm_leased_audio_seconds", class_="bulk") == 30.0
    assert value(follower, "pianofarm_queue_audio_seconds", class_="interactive") == 0.0
    assert value(follower, "pianofarm_ledger_up") == 1


def test_a_class_that_is_paused_is_told_from_one_that_waits(follower: Follower, redis_settings: Settings) -> None:
    switches = Switches.from_settings(redis_settings)
    switches.turn("pause", "queue", "bulk")
    switches.turn("drain", "queue", "standard")

    paused = [value(follower, "pianofarm_queue_paused", class_=name) for name in ("interactive", "standard", "bulk")]
    switches.resume("queue", "bulk")
    afterwards = value(follower, "pianofarm_queue_paused", class_="bulk")
    switches.close()

    assert (paused, afterwards) == ([0.0, 0.0, 1.0], 0.0)


def test_the_age_of_a_queue_is_that_of_its_oldest_render(
    ledger: Ledger, follower: Follower, redis_settings: Settings
) -> None:
    import redis

    tickets = ledger.submit_many([request(1), request(2)])
    with redis.Redis.from_url(redis_settings.redis_url.get_secret_value()) as client:
        field = "{pianofarm}:render:" + tickets[1].key
        client.hset(field, "sub", int(client.hget(field, "sub")) - 60_000)

    assert value(follower, "pianofarm_queue_oldest_seconds", class_="standard") >= 60.0
    assert value(follower, "pianofarm_queue_oldest_seconds", class_="bulk") == 0.0


def test_one_render_that_two_jobs_wait_for_is_one_render_and_two_jobs(ledger: Ledger, follower: Follower) -> None:
    follower.step()
    tickets = ledger.submit_many([request(1), request(1)])
    claim = claimed(ledger, tickets[0])
    ledger.commit(claim.key, claim.token, made(claim))
    follower.step()

    assert value(follower, "pianofarm_jobs_total", class_="standard", outcome="done") == 2
    assert value(follower, "pianofarm_render_seconds_count", class_="standard", device="other") == 1
    assert value(follower, "pianofarm_render_seconds_sum", class_="standard", device="other") == 2.0
    assert value(follower, "pianofarm_audio_seconds_total", class_="standard", device="other", model="default") == 10.0
    assert value(follower, "pianofarm_worker_busy_seconds_total", device="other") == 2.5


def test_a_finished_render_asked_for_again_is_a_cache_hit_and_no_work(ledger: Ledger, follower: Follower) -> None:
    follower.step()
    claim = claimed(ledger, ledger.submit_many([request(1)])[0])
    ledger.commit(claim.key, claim.token, made(claim))
    ledger.submit_many([request(1)])
    follower.step()

    assert value(follower, "pianofarm_cache_hits_total", class_="standard") == 1
    assert value(follower, "pianofarm_render_seconds_count", class_="standard", device="other") == 1


def test_events_of_before_the_exporter_started_are_not_counted_but_tell_the_speed(
    ledger: Ledger, follower: Follower
) -> None:
    ledger.register_worker(WorkerInfo("w1", "host", 1, "gpu:0", "tensorflow", 0.0))
    claim = claimed(ledger, ledger.submit_many([request(1, audio_s=100.0)])[0])
    ledger.commit(claim.key, claim.token, made(claim, render_s=4.5))
    follower.step()

    assert value(follower, "pianofarm_jobs_total", class_="standard", outcome="done") == 0
    assert value(follower, "pianofarm_worker_audio_seconds_per_second") == 20.0
    assert value(follower, "pianofarm_device_audio_seconds_per_second", device="gpu") == 20.0


def test_the_speed_is_the_assumed_one_before_anything_was_made(follower: Follower, redis_settings: Settings) -> None:
    follower.step()

    assert value(follower, "pianofarm_worker_audio_seconds_per_second") == redis_settings.assumed_speed


def test_retries_failures_and_quarantines_are_counted_by_error(ledger: Ledger, follower: Follower) -> None:
    follower.step()
    tickets = ledger.submit_many([request(n) for n in range(3)])
    transient = claimed(ledger, tickets[0])
    ledger.fail(transient.key, transient.token, ServiceUnavailable("store away"), permanent=False)
    permanent = claimed(ledger, tickets[1])
    ledger.fail(permanent.key, permanent.token, BadMidi("byte 7"), permanent=True)
    unknown = claimed(ledger, tickets[2])
    ledger.fail(unknown.key, unknown.token, ZeroDivisionError("a bug"), permanent=True)
    follower.step()

    assert value(follower, "pianofarm_retries_total", error="ServiceUnavailable") == 1
    assert value(follower, "pianofarm_failures_total", error="BadMidi") == 1
    assert value(follower, "pianofarm_failures_total", error="other") == 1
    assert value(follower, "pianofarm_jobs_total", class_="standard", outcome="failed") == 2


def test_workers_are_counted_busy_or_idle_by_device(ledger: Ledger, follower: Follower) -> None:
    ledger.register_worker(WorkerInfo("w1", "host", 1, "gpu:0", "tensorflow", 0.0, key="b" * 64))
    ledger.register_worker(WorkerInfo("w2", "host", 2, "cpu", "jax", 0.0))
    follower.step()
    before = value(follower, "pianofarm_worker_seconds_total", device="gpu")
    follower.step()

    assert value(follower, "pianofarm_workers", device="gpu", state="busy") == 1
    assert value(follower, "pianofarm_workers", device="cpu", state="idle") == 1
    assert value(follower, "pianofarm_worker_seconds_total", device="gpu") > before


def test_the_cost_is_worker_time_at_its_price(ledger: Ledger, taker: CensusTaker, redis_settings: Settings) -> None:
    follower = Follower(ledger, taker, redis_settings.model_copy(update={"worker_price_per_h": 7200.0}))
    ledger.register_worker(WorkerInfo("w1", "host", 1, "gpu:0", "tensorflow", 0.0))
    follower.step()
    follower.step()

    worker_s = value(follower, "pianofarm_worker_seconds_total", device="gpu")
    assert value(follower, "pianofarm_cost_total", device="gpu") == pytest.approx(2.0 * worker_s)


def test_a_dead_redis_is_said_and_no_old_figure_is_shown(redis_settings: Settings) -> None:
    settings = redis_settings.model_copy(
        update={"redis_url": Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0").redis_url}
    )
    ledger, taker = Ledger.from_settings(settings), CensusTaker.from_settings(settings)
    follower = Follower(ledger, taker, settings)
    follower.metrics.registry.register(FarmCollector(ledger, taker, follower.speedometer))

    assert value(follower, "pianofarm_ledger_up") == 0
    assert follower.metrics.registry.get_sample_value("pianofarm_queue_renders", {"class": "bulk"}) is None
    with pytest.raises(ServiceUnavailable):
        follower.step()


def test_the_exporter_serves_what_prometheus_can_parse_and_ends_when_told(
    ledger: Ledger, redis_settings: Settings
) -> None:
    ledger.submit_many([request(1, PriorityClass.INTERACTIVE, audio_s=12.0)])
    settings = redis_settings.model_copy(update={"exporter_port": free_port()})
    ending = threading.Event()
    thread = threading.Thread(target=exporter.run, args=(settings, ending))
    thread.start()
    url = f"http://127.0.0.1:{settings.exporter_port}/metrics"
    try:
        wait_until(lambda: "pianofarm_ledger_up 1" in page(url), "the exporter")
        families = {family.name: family for family in text_string_to_metric_families(page(url))}
    finally:
        ending.set()
        thread.join(timeout=20)

    waiting = {sample.labels["class"]: sample.value for sample in families["pianofarm_queue_audio_seconds"].samples}
    assert waiting == {"interactive": 12.0, "standard": 0.0, "bulk": 0.0}
    assert not thread.is_alive()


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return answer.read().decode()
    except OSError:
        return ""
