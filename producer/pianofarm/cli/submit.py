"""`pianofarm submit`: MIDI from files, folders, globs, tables or standard input becomes a batch of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared
from pianofarm_common.errors import NotFound, Permanent, PianofarmError

if TYPE_CHECKING:
    from pianofarm.client import Farm
    from pianofarm.handles import Batch


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(submit)


def submit(
    sources: Annotated[
        list[str], typer.Argument(help="MIDI files, folders, globs, .csv tables, or - for standard input.")
    ],
    model: shared.Model = None,
    piano: shared.Piano = None,
    duration: shared.Duration = None,
    warm_up_s: shared.WarmUp = None,
    tail: shared.Tail = True,
    sample_rate: shared.SampleRate = None,
    channels: shared.Channels = None,
    format: shared.Format = None,  # noqa: A002 - the option's name
    sample_format: shared.SampleFormat = None,
    normalize_dbfs: shared.NormalizeDbfs = None,
    normalize_lufs: shared.NormalizeLufs = None,
    room: shared.Room = None,
    dry: Annotated[bool, typer.Option("--dry", help="Store the sound before the room as well.")] = False,
    priority: Annotated[str, typer.Option("--priority", help="interactive, standard or bulk.")] = "standard",
    owner: Annotated[str, typer.Option("--owner", help="Whose jobs these are.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all are finished.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show every event until all are finished.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Wait and download the audio into this folder.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say how long it takes and what it costs; submit nothing.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="PRICE", min=0.0, help="Stop this batch when it has cost that much."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Have this address told of the end of every job.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Submit renders to the farm. Prints a line per job: its id, its state and its name."""
    from pianofarm.cli.following import exit_code, follow
    from pianofarm.cli.terminal import say
    from pianofarm.client import Farm
    from pianofarm.destination import check_writable
    from pianofarm.manifest import expand
    from pianofarm_common.ledger import new_id
    from pianofarm_common.ledger.callbacks import check_url

    given = shared.render_options(
        piano=piano,
        duration_s=duration,
        warm_up_s=warm_up_s,
        tail=tail,
        sample_rate_hz=sample_rate,
        channels=channels,
        format=format,
        sample_format=sample_format,
        normalize_dbfs=normalize_dbfs,
        normalize_lufs=normalize_lufs,
        room=room,
        dry=dry,
    )
    if out is not None:
        # Before anything is submitted: a place that cannot be written to would be found hours later.
        check_writable(out / "audio")
    if webhook is not None:
        check_url(webhook)
    with Farm.from_env() as farm:
        batch_id = new_id(farm.settings.owner)
        found = expand(sources, given, farm.settings.midi_max_bytes)
        if estimate:
            from pianofarm.cli.budget import what_is_left
            from pianofarm.cli.cost import show_estimate
            from pianofarm.estimates import estimate_submission

            expected, rejected = estimate_submission(farm, found, model=model, options=given, priority=priority)
            show_estimate(expected, rejected, what_is_left(farm.settings, budget, owner), as_json=json)
            raise typer.Exit(1 if rejected else 0)
        if budget is not None:
            from pianofarm.cli.budget import give, price_as_worker_s

            give(farm.settings, "batch", batch_id, price_as_worker_s(budget, farm.settings))
        try:
            try:
                batch = farm.submit_many(
                    found, model=model, options=given, priority=priority, owner=owner, batch=batch_id
                )
            except PianofarmError as error:
                raise _with_what_goes_on(error, farm, batch_id) from None
            if not batch.jobs:
                raise batch.rejected[0].error if len(batch.rejected) == 1 else _all_rejected(batch)
            if webhook is not None:
                farm.call_back(batch, webhook)
            _show(batch, as_json=json)
            code = 1 if batch.rejected else 0
            if wait or watch or out:
                status = follow(batch, as_json=json and watch, lines=watch)
                code = exit_code(status, len(batch.rejected))
                if out is not None:
                    from pianofarm.cli.jobs import fetch_batch

                    code = max(code, fetch_batch(batch, out, as_json=json))
                elif not watch:
                    _report_failures(batch)
        except KeyboardInterrupt:
            say(
                f"batch {batch_id} goes on: 'pianofarm watch {batch_id}' follows it, 'pianofarm cancel {batch_id}' ends it"
            )
            raise
    raise typer.Exit(code)


def _with_what_goes_on(error: PianofarmError, farm: Farm, batch_id: str) -> PianofarmError:
    """The error, and where to find what was submitted before it; the farm goes on with that."""
    try:
        accepted = f"the {farm.batch(batch_id).status().total} submitted before it are"
    except NotFound:
        return error
    except PianofarmError:
        if isinstance(error, Permanent):
            return error
        accepted = "what was accepted before, if anything, is"
    return type(error)(f"{error}; {accepted} batch {batch_id} (for 'pianofarm watch' and 'pianofarm cancel')")


def _all_rejected(batch: Batch) -> Exception:
    from pianofarm_common.errors import BadMidi

    first = batch.rejected[0]
    return BadMidi(f"none of {len(batch.rejected)} sources can be rendered; the first: {first.error}")


def _show(batch: Batch, *, as_json: bool) -> None:
    from pianofarm.cli.following import reason
    from pianofarm.cli.terminal import print_json, rejection, say

    if as_json:
        print_json(
            {
                "batch": batch.id,
                "jobs": [{"job": job.id, "name": job.name, "key": job.key, "cached": job.cached} for job in batch.jobs],
                "rejected": [{"name": item.name, **reason(item.error)} for item in batch.rejected],
            }
        )
        return
    for job in batch.jobs:
        print(f"{job.id}  {'cached' if job.cached else 'queued':<6}  {job.name}")
    for item in batch.rejected:
        say(rejection(item))
    cached = sum(job.cached for job in batch.jobs)
    say(
        f"batch {batch.id}: {len(batch.jobs)} submitted, {cached} of them in the cache, {len(batch.rejected)} rejected; "
        f"'pianofarm watch {batch.id}' follows it"
    )


def _report_failures(batch: Batch) -> None:
    from pianofarm.cli.terminal import say
    from pianofarm_common.renders import State

    for status in batch.statuses():
        if status.state is not State.DONE:
            say(f"{status.state}: {status.name or status.job_id}{': ' + status.error if status.error else ''}")
