"""Traces of jobs for an OpenTelemetry collector, made from the ledger when a job has ended. Speaks OTLP over HTTP in JSON.

The protocol is one POST of one documented object, so no library is needed: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from typing import Any

from pianofarm_common.ledger import JobStatus
from pianofarm_common.logs import get_logger
from pianofarm_common.renders import State

#: Spans kept while the collector does not answer; older ones are dropped, for a trace is no reason to fill a memory.
MAX_WAITING = 10_000

#: Longest wait for the collector: the same thread counts events.
TIMEOUT_S = 2.0

_INTERNAL, _OK, _ERROR = 1, 1, 2

log = get_logger(__name__)


class Tracer:
    """Collects the spans of jobs and sends them in batches."""

    def __init__(self, endpoint: str) -> None:
        """Args: endpoint: base address of the collector, such as http://127.0.0.1:4318."""
        self._url = endpoint.rstrip("/") + "/v1/traces"
        self._waiting: list[dict[str, Any]] = []

    def add(self, job: JobStatus) -> None:
        """Note a job that ended."""
        self._waiting += spans_of(job)
        del self._waiting[:-MAX_WAITING]

    def flush(self) -> None:
        """Send what waits; what the collector does not take is dropped."""
        if not self._waiting:
            return
        spans, self._waiting = self._waiting, []
        body = {
            "resourceSpans": [
                {
                    "resource": {"attributes": _attributes({"service.name": "pianofarm"})},
                    "scopeSpans": [{"scope": {"name": "pianofarm"}, "spans": spans}],
                }
            ]
        }
        request = urllib.request.Request(  # noqa: S310 - the operator's own collector
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310 - as above
        except (OSError, urllib.error.URLError, ValueError) as error:
            log.warning("traces not sent", error=str(error), spans=len(spans))


def spans_of(job: JobStatus) -> list[dict[str, Any]]:
    """The trace of a job as OTLP spans: the job, and below it queue, render and upload where this job waited for them."""
    trace_id = job.job_id
    failed = job.state is not State.DONE
    about: dict[str, Any] = {
        "pianofarm.job": job.job_id,
        "pianofarm.batch": job.batch,
        "pianofarm.render": job.key,
        "pianofarm.state": str(job.state),
        "pianofarm.class": str(job.priority),
        "pianofarm.cached": job.cached,
    }
    render = job.render
    if render is not None:
        about |= {
            "pianofarm.model": render.spec.model_name,
            "pianofarm.audio_s": render.spec.audio_s,
            "pianofarm.attempts": render.attempts,
            "pianofarm.worker": render.worker,
        }
    root = _span(trace_id, "job", "", job.created_at, job.finished_at, about)
    root["status"] = {"code": _ERROR, "message": job.error} if failed else {"code": _OK}
    if job.cached or render is None or not render.started_at or not render.finished_at:
        return [root]
    parent = str(root["spanId"])
    result = render.result
    upload_s = result.upload_s if result is not None else 0.0
    made_at = max(render.started_at, render.finished_at - upload_s)
    spans = [
        root,
        _span(trace_id, "queue", parent, render.submitted_at, render.started_at, {}),
        _span(trace_id, "render", parent, render.started_at, made_at, {}),
    ]
    if result is not None:
        spans.append(
            _span(trace_id, "upload", parent, made_at, render.finished_at, {"pianofarm.bytes": result.audio_bytes})
        )
    return spans


def _span(
    trace_id: str, name: str, parent: str, begin_s: float, end_s: float, attributes: dict[str, Any]
) -> dict[str, Any]:
    """One span; its id follows from trace and name, so that sending it twice is one span."""
    span_id = hashlib.sha256(f"{trace_id} {name}".encode()).hexdigest()[:16]
    return {
        "traceId": trace_id,
        "spanId": span_id,
        **({"parentSpanId": parent} if parent else {}),
        "name": name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(round(begin_s * 1e9)),
        "endTimeUnixNano": str(round(max(begin_s, end_s) * 1e9)),
        "attributes": _attributes(attributes),
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
