"""A trace of every job that ended reaches an OTLP collector, and a collector that is away harms nobody."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from services import free_port, wait_until

from pianofarm_common.errors import BadMidi
from pianofarm_common.ledger import Claim, JobRequest, Ledger, new_id
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.renders import PriorityClass, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_worker import exporter
from pianofarm_worker.follower import Follower
from pianofarm_worker.tracing import MAX_WAITING, Tracer


class Collector:
    """Takes what an OpenTelemetry collector takes."""

    def __init__(self) -> None:
        received = self.received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.append((self.path, self.headers["Content-Type"], body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[dict]:
        return [
            span
            for _, _, body in self.received
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def request(number: int) -> JobRequest:
    spec = RenderSpec(performance_sha256=f"{number:064x}", model_digest="a" * 64, model_name="default", audio_s=60.0)
    return JobRequest(spec=spec, batch=new_id(), priority=PriorityClass.STANDARD)


def claimed(ledger: Ledger, asked: JobRequest) -> Claim:
    (ticket,) = ledger.submit_many([asked])
    claim = ledger.claim(ticket.key, "w1")
    assert isinstance(claim, Claim)
    return claim


def finish(ledger: Ledger, claim: Claim) -> None:
    ledger.commit(
        claim.key,
        claim.token,
        RenderResult(
            key=claim.key,
            spec=claim.spec,
            audio_key="audio",
            audio_sha256="0" * 64,
            audio_bytes=123,
            audio_s=60.0,
            sample_rate_hz=24_000,
            channels=1,
            loudness_lufs=None,
            peak_dbfs=-1.0,
            notes=1,
            dropped_notes=0,
            render_s=0.1,
            upload_s=0.01,
            worker="w1",
        ),
    )


@pytest.fixture
def follow(ledger: Ledger, redis_settings: Settings, collector: Collector):
    taker = CensusTaker.from_settings(redis_settings)
    tracer = Tracer(collector.address)
    follower = Follower(ledger, taker, redis_settings, tracer.add)
    follower.step()

    def follow() -> None:
        follower.step()
        tracer.flush()

    yield follow
    taker.close()


def test_a_done_job_is_a_trace_whose_parts_lie_within_it(ledger, collector, follow):
    asked = request(1)
    finish(ledger, claimed(ledger, asked))
    follow()

    (path, kind, _), *_ = collector.received
    assert (path, kind) == ("/v1/traces", "application/json")
    spans = {span["name"]: span for span in collector.spans()}
    assert list(spans) == ["job", "queue", "render", "upload"]
    job = spans["job"]
    assert job["traceId"] == asked.job_id
    assert "parentSpanId" not in job
    assert job["status"] == {"code": 1}
    for name in ("queue", "render", "upload"):
        assert spans[name]["parentSpanId"] == job["spanId"]
        assert spans[name]["traceId"] == asked.job_id
        assert int(job["startTimeUnixNano"]) <= int(spans[name]["startTimeUnixNano"])
        assert int(spans[name]["startTimeUnixNano"]) <= int(spans[name]["endTimeUnixNano"])
        assert int(spans[name]["endTimeUnixNano"]) <= int(job["endTimeUnixNano"])
    assert {"key": "pianofarm.bytes", "value": {"intValue": "123"}} in spans["upload"]["attributes"]


def test_a_failed_job_says_why_and_a_cached_one_has_no_parts(ledger, collector, follow):
    broken = claimed(ledger, request(1))
    ledger.fail(broken.key, broken.token, BadMidi("byte 7 is wrong"), permanent=True)
    finish(ledger, claimed(ledger, request(2)))
    cached = request(2)
    ledger.submit_many([cached])
    follow()

    spans = collector.spans()
    assert [span["status"] for span in spans if span.get("status", {}).get("code") == 2] == [
        {"code": 2, "message": "byte 7 is wrong"}
    ]
    assert [span["name"] for span in spans if span["traceId"] == cached.job_id] == ["job"]


def test_a_collector_that_is_away_costs_traces_and_nothing_else(ledger, redis_settings):
    taker = CensusTaker.from_settings(redis_settings)
    tracer = Tracer(f"http://127.0.0.1:{free_port()}")
    follower = Follower(ledger, taker, redis_settings, tracer.add)
    follower.step()
    finish(ledger, claimed(ledger, request(1)))
    follower.step()
    tracer.flush()

    labels = {"class": "standard", "outcome": "done"}
    assert follower.metrics.registry.get_sample_value("pianofarm_jobs_total", labels) == 1
    taker.close()


def test_traces_that_wait_are_bounded(ledger):
    tracer = Tracer("http://127.0.0.1:1")
    finish(ledger, claimed(ledger, asked := request(1)))
    job = ledger.job(asked.job_id)
    for _ in range(MAX_WAITING // 4 + 10):
        tracer.add(job)

    assert len(tracer._waiting) == MAX_WAITING


def test_the_exporter_sends_traces_where_the_setting_says(ledger, redis_settings, collector):
    settings = redis_settings.model_copy(
        update={"exporter_port": free_port(), "otlp_endpoint": collector.address + "/"}
    )
    ending = threading.Event()
    thread = threading.Thread(target=exporter.run, args=(settings, ending))
    thread.start()
    try:
        numbers = iter(range(10_000))

        def sent() -> bool:
            # The exporter follows from its start on, which nobody outside knows.
            finish(ledger, claimed(ledger, request(next(numbers))))
            return bool(collector.spans())

        wait_until(sent, "a trace")
    finally:
        ending.set()
        thread.join(timeout=20)
