"""From the hashes in Redis to the values that callers see."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pianofarm_common.errors import NotFound
from pianofarm_common.ledger.values import BatchStatus, Event, JobStatus, RenderStatus
from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, RenderSpec, State


@lru_cache(maxsize=512)
def spec_of(text: str) -> RenderSpec:
    """A render from the JSON of its record. A worker reads those of a bundle twice: to plan with them, and when it claims."""
    return RenderSpec.model_validate_json(text)


def _seconds(record: Mapping[str, str], name: str) -> float:
    return float(record.get(name) or 0) / 1000.0


def render_status(key: RenderKey, record: Mapping[str, str], waiting_jobs: int) -> RenderStatus:
    """A render from its hash.

    Raises:
        NotFound: the hash is empty.
    """
    if not record:
        raise NotFound(f"no render {key!r} in the ledger: it expired or was never submitted")
    result = record.get("res")
    return RenderStatus(
        key=key,
        state=State(record["st"]),
        spec=spec_of(record["spec"]),
        priority=PriorityClass(record["cls"]),
        attempts=int(record.get("att") or 0),
        kills=int(record.get("kills") or 0),
        fraction=float(record.get("frac") or 0),
        worker=record.get("wk", ""),
        submitted_at=_seconds(record, "sub"),
        started_at=_seconds(record, "start"),
        finished_at=_seconds(record, "fin"),
        error_type=record.get("et", ""),
        error=record.get("err", ""),
        waiting_jobs=waiting_jobs,
        result=RenderResult.model_validate_json(result) if result else None,
        alone=record.get("alone") == "1",
        deferrals=int(record.get("defs") or 0),
        died_on=tuple(record.get("hosts", "").split()),
    )


def job_status(job_id: str, record: Mapping[str, str], render: RenderStatus | None) -> JobStatus:
    """A job from its hash and its render.

    Raises:
        NotFound: the hash is empty.
    """
    if not record:
        raise NotFound(f"no job {job_id!r}: it expired or was never submitted (pianofarm submit prints the ids)")
    final = record.get("st", "")
    waits = not final and render is not None
    return JobStatus(
        job_id=job_id,
        batch=record["batch"],
        owner=record["owner"],
        name=record["name"],
        key=RenderKey(record["key"]),
        state=State(final) if final else (render.state if render else State.QUEUED),
        priority=PriorityClass(record["cls"]),
        created_at=_seconds(record, "created"),
        finished_at=_seconds(record, "fin"),
        cached=record.get("cached") == "1",
        error_type=render.error_type if waits and render else record.get("et", ""),
        error=render.error if waits and render else record.get("err", ""),
        render=render,
    )


def batch_status(batch: str, record: Mapping[str, str]) -> BatchStatus:
    """Counts of a batch from its hash.

    Raises:
        NotFound: the hash is empty.
    """
    if not record:
        raise NotFound(f"no batch {batch!r}: it expired or was never submitted")
    names = ("total", "queued", "running", "done", "failed", "quarantined", "cancelled")
    return BatchStatus(batch, *(int(record.get(name) or 0) for name in names))


def event(event_id: str, fields: Mapping[str, str]) -> Event:
    """An event from a stream entry."""
    return Event(
        id=event_id,
        kind=fields["k"],
        job_id=fields["j"],
        batch=fields["b"],
        key=RenderKey(fields["r"]),
        fraction=float(fields["f"]),
        worker=fields["w"],
        error=fields["e"],
    )
