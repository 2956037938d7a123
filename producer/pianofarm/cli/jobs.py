"""`pianofarm status`, `watch`, `cancel`, `fetch`: what becomes of jobs and batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm.client import Farm
    from pianofarm.handles import Batch, Job

What = Annotated[str, typer.Argument(metavar="JOB|BATCH", help="Id of a job or of a batch, as 'submit' printed it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, watch, cancel, fetch):
        app.command()(command)


def status(
    what: Annotated[
        str | None, typer.Argument(metavar="[JOB|BATCH]", help="Id of a job or a batch; none: the whole farm.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Show where a job, a batch or the whole farm stands."""
    from pianofarm.cli.following import job_json
    from pianofarm.cli.terminal import print_json
    from pianofarm.client import Farm
    from pianofarm.handles import Job

    with Farm.from_env() as farm:
        if what is None:
            _farm_status(farm, as_json=json)
            return
        handle = _find(farm, what)
        jobs = [handle.status()] if isinstance(handle, Job) else handle.statuses()
        if json:
            for job in jobs:
                print_json(job_json(job))
            return
        for job in jobs:
            part = f"{100 * job.render.fraction:.0f}%" if job.render and not job.state.final else ""
            print(f"{job.job_id}  {job.state:<11} {part:<4} {job.name}{': ' + job.error if job.error else ''}")
        if not isinstance(handle, Job):
            counts = handle.status()
            print(
                f"batch {counts.batch}: {counts.total} jobs, {counts.done} done, {counts.running} running, {counts.queued} queued, "
                f"{counts.failed} failed, {counts.quarantined} quarantined, {counts.cancelled} cancelled"
            )


def _farm_status(farm: Farm, *, as_json: bool) -> None:
    from dataclasses import asdict

    from pianofarm.cli.terminal import print_json
    from pianofarm_common.renders import PriorityClass

    ledger = farm.services.ledger
    redis, workers = ledger.ping(), ledger.workers()
    switches = farm.services.switches.all()
    depths = {str(priority): ledger.depth(priority) for priority in PriorityClass}
    if as_json:
        print_json(
            {
                "redis": redis,
                "workers": [asdict(worker) for worker in workers],
                "queues": {name: asdict(depth) for name, depth in depths.items()},
                "switches": [asdict(switch) for switch in switches],
            }
        )
        return
    print(f"Redis {redis}")
    for name, depth in depths.items():
        print(
            f"{name:<12} {depth.queued_renders} queued ({depth.queued_audio_s:.0f} s of audio), "
            f"{depth.running_renders} running ({depth.running_audio_s:.0f} s)"
        )
    for switch in switches:
        print(f"{switch}: 'pianofarm resume --{switch.kind} {switch.name}' ends that")
    for worker in workers:
        doing = f"renders {worker.key[:12]}" if worker.key else f"rests ({worker.rests})" if worker.rests else "idle"
        print(f"worker {worker.name} on {worker.device}: {doing}, {worker.renders_done} done")
    if not workers:
        print("no worker is alive: 'pianofarm up' starts a local farm, 'pianofarm worker' starts workers only")


def watch(what: What, json: shared.Json = False) -> None:
    """Follow a batch (or the batch of a job) until it is finished. Exit code 1 where not all of it is done."""
    from pianofarm.cli.following import exit_code, follow
    from pianofarm.client import Farm
    from pianofarm.handles import Job

    with Farm.from_env() as farm:
        handle = _find(farm, what)
        batch = farm.batch(handle.batch) if isinstance(handle, Job) else handle
        raise typer.Exit(exit_code(follow(batch, as_json=json)))


def cancel(
    what: Annotated[
        str | None, typer.Argument(metavar="[JOB|BATCH]", help="Id of a job or of a batch, as 'submit' printed it.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="All that this owner waits for.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="CLASS", help="All that waits in interactive, standard or bulk.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Cancel a job, or all unfinished jobs of a batch, an owner or a queue. What runs stops at its next block of audio."""
    from pianofarm.cli.terminal import print_json
    from pianofarm.client import Farm
    from pianofarm.handles import Job
    from pianofarm_common.errors import BadOption
    from pianofarm_common.renders import PriorityClass

    if sum(given is not None for given in (what, owner, queue)) != 1:
        raise BadOption("give the id of a job or of a batch, or --owner, or --queue")
    if queue is not None and queue not in list(PriorityClass):
        raise BadOption(f"no queue {queue!r}: name one of {', '.join(PriorityClass)}")
    with Farm.from_env() as farm:
        if what is None:
            kind, name = ("owner", owner or "") if queue is None else ("queue", queue)
            n_jobs = farm.cancel_all("owner" if queue is None else "queue", name)
            print_json({kind: name, "cancelled": n_jobs}) if json else print(f"{kind} {name}: {n_jobs} jobs cancelled")
            return
        handle = _find(farm, what)
        if isinstance(handle, Job):
            state = handle.cancel()
            if json:
                print_json({"job": handle.id, "state": state})
            else:
                print(f"job {handle.id} is {state}")
        else:
            cancelled = handle.cancel()
            if json:
                print_json({"batch": handle.id, "cancelled": cancelled})
            else:
                print(f"batch {handle.id}: {cancelled} jobs cancelled")


def fetch(
    what: What,
    path: Annotated[
        Path | None, typer.Argument(help="File for a job, folder for a batch; default: here, by its name.")
    ] = None,
    url: Annotated[
        bool, typer.Option("--url", help="Print a URL that works for a while instead of downloading.")
    ] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Longest wait for a render.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Wait for a job or a batch and download its audio."""
    from pianofarm.cli.terminal import print_json
    from pianofarm.client import Farm
    from pianofarm.handles import Batch

    with Farm.from_env() as farm:
        handle = _find(farm, what)
        if isinstance(handle, Batch):
            if not handle.status().final:
                handle.wait(timeout_s)
            raise typer.Exit(fetch_batch(handle, None if url else path or Path(), as_json=json))
        result = handle.result(timeout_s)
        if url:
            print_json({"job": handle.id, "url": result.url()}) if json else print(result.url())
            return
        suffix = Path(result.info.audio_key).suffix
        target = path or Path(audio_name(handle, suffix))
        if target.is_dir():
            target /= audio_name(handle, suffix)
        result.download(target)
        print_json({"job": handle.id, "path": str(target), "sha256": result.info.audio_sha256}) if json else print(
            target
        )


def fetch_batch(batch: Batch, folder: Path | None, *, as_json: bool) -> int:
    """Download every finished render of a batch into a folder, or print their URLs where there is none.

    Returns 0, or 1 where some have no audio; the others are fetched all the same.
    """
    from pianofarm.cli.following import reason
    from pianofarm.cli.terminal import print_json, say
    from pianofarm.handles import result_of
    from pianofarm_common.errors import BadOption, Permanent
    from pianofarm_common.renders import State

    taken: set[str] = set()
    missing = 0
    for job, status_now in zip(batch.jobs, batch.statuses(), strict=True):
        about = {"job": job.id, "name": job.name}
        try:
            result = result_of(batch.services, status_now)
            if folder is None:
                got = {"url": result.url()}
            else:
                got = {"path": str(result.download(folder / _free_name(job, result.info.audio_key, taken)))}
        except BadOption:
            # The folder cannot be written to: nor could the next file.
            raise
        except Permanent as error:
            missing += 1
            if as_json:
                print_json({**about, "state": status_now.state, **reason(error)})
            else:
                say(f"{job.name or job.id}: {error}")
            continue
        if as_json:
            print_json({**about, "state": State.DONE, **got, "sha256": result.info.audio_sha256})
        else:
            print(*got.values())
    return 1 if missing else 0


def _free_name(job: Job, audio_key: str, taken: set[str]) -> str:
    """File name for a job's audio that no other job of the batch has; enters it in `taken`."""
    name = audio_name(job, Path(audio_key).suffix)
    if name in taken:
        name = f"{Path(name).with_suffix('')}-{job.id[:8]}{Path(name).suffix}"
    taken.add(name)
    return name


def audio_name(job: Job, suffix: str) -> str:
    """File name for a job's audio: its own name with another ending, and nothing that leads to another folder."""
    stem = Path(job.name.replace("\\", "/")).with_suffix("") if job.name else Path(job.id)
    parts = [part for part in stem.parts if part not in ("/", "..", ".")]
    return "/".join(parts or [job.id]) + suffix


def _find(farm: Farm, what: str) -> Job | Batch:
    """The job or the batch of this id."""
    from pianofarm_common.errors import NotFound

    try:
        return farm.job(what)
    except NotFound:
        batch = farm.batch(what)
    try:
        batch.status()
    except NotFound:
        raise NotFound(f"no job and no batch {what!r}: 'pianofarm submit' prints their ids") from None
    return batch
