"""Following a batch on a terminal, in plain lines or as JSON, until it is finished."""

from __future__ import annotations

from dataclasses import asdict

from pianofarm.cli.terminal import Meter, print_json
from pianofarm.handles import Batch, ends
from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import BatchStatus, JobStatus
from pianofarm_common.renders import State


def follow(batch: Batch, *, as_json: bool = False, lines: bool = True) -> BatchStatus:
    """Show the events of a batch until it is finished; returns its counts.

    Args:
        batch: what to follow.
        as_json: print every event as JSON and nothing else.
        lines: a line for every job that ends, beside the meter.
    """
    names = {job.id: job.name for job in batch.jobs}
    fractions: dict[str, float] = {}
    finished: set[str] = set()
    with Meter("rendering", len(names), counts=True, quiet=as_json) as meter:
        for event in batch.watch():
            if as_json:
                print_json({**asdict(event), "at": event.at, "name": names.get(event.job_id, "")})
            name = names.get(event.job_id, "") or event.job_id
            if ends(event):
                if event.job_id not in finished and lines:
                    meter.line(f"{event.kind:<11} {name}{': ' + event.error if event.error else ''}")
                finished.add(event.job_id)
                fractions.pop(event.job_id, None)
            elif event.kind == State.QUEUED:
                fractions.pop(event.job_id, None)
            else:
                fractions[event.job_id] = event.fraction
            meter.update(
                len(finished) + sum(fractions.values()),
                note=", ".join(names.get(job, job) for job in list(fractions)[:3]),
            )
    return batch.status()


def exit_code(status: BatchStatus, rejected: int = 0) -> int:
    """0 when everything is done, 1 when something is not."""
    return 0 if status.done == status.total and rejected == 0 else 1


def job_json(status: JobStatus) -> dict[str, object]:
    """What a script wants to know of a job."""
    render = status.render
    result = render.result if render else None
    return {
        "job": status.job_id,
        "batch": status.batch,
        "name": status.name,
        "owner": status.owner,
        "state": status.state,
        "priority": status.priority,
        "cached": status.cached,
        "created_at": status.created_at,
        "finished_at": status.finished_at,
        "key": status.key,
        "fraction": render.fraction if render else None,
        "attempts": render.attempts if render else None,
        "worker": render.worker if render else "",
        "error_type": status.error_type,
        "error": status.error,
        "result": result.model_dump(mode="json", exclude={"spec"}) if result else None,
    }


def reason(error: PianofarmError) -> dict[str, str]:
    """An error for a script."""
    return {"error_type": type(error).__name__, "error": str(error)}
