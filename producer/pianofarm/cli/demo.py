"""`pianofarm demo`: a whole farm on this machine renders a few pieces and shows what came out. What `make demo` runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm.handles import Job, Result

#: The pieces of a checkout; an installed package has none.
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    sources: Annotated[
        list[str] | None, typer.Argument(help="MIDI files or folders; default: examples/ of the checkout.")
    ] = None,
    model: shared.Model = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the farm up, so that Flower can be looked at.")] = False,
    json: shared.Json = False,
) -> None:
    """Start a farm on this machine, render the example pieces through it, show the results, stop it."""
    from pianofarm.cli.farm import wait_for_services, wait_for_workers
    from pianofarm.cli.following import follow
    from pianofarm.cli.terminal import say
    from pianofarm.client import Farm
    from pianofarm.local.farm import LocalFarm
    from pianofarm.local.workers import worker_programs
    from pianofarm.manifest import expand
    from pianofarm_common.errors import BadOption
    from pianofarm_common.settings import Settings

    if not sources and not EXAMPLES.is_dir():
        raise BadOption(
            "there are no example pieces beside this installation: give MIDI files, 'pianofarm demo FILE.mid'"
        )
    settings = Settings.load()
    local = LocalFarm(settings.state_dir)
    say("starting the farm ...")
    # Where everything is in the cache, no worker is needed.
    fresh = local.up(settings, worker_programs(settings, None, deferred=not keep), attached=not keep)
    try:
        wait_for_services(local)
        facts = local.facts
        if facts is not None:
            say(
                f"Flower shows the queue at {facts.flower_url} (user {facts.flower_user}, password {facts.flower_password})"
            )
        with Farm.from_env() as farm:
            found = expand(sources or [str(EXAMPLES)], {}, farm.settings.midi_max_bytes)
            batch = farm.submit_many(found, model=model, priority="interactive", owner="demo")
            for item in batch.rejected:
                say(f"rejected: {item.name}: {item.error}")
            cached = sum(job.cached for job in batch.jobs)
            say(f"submitted {len(batch.jobs)} pieces; {cached} of them were rendered before and come from the cache")
            if not batch.status().final:
                say("waiting for a worker ...")
                if fresh:
                    local.start_deferred()
                wait_for_workers(local, farm.settings, first=True)
                follow(batch)
            n_failed = _show(batch.jobs, local.folder.root / "renders", as_json=json)
            if batch.jobs and cached == len(batch.jobs):
                say("every piece was a cache hit: nothing had to be rendered")
    finally:
        if fresh and not keep:
            say("stopping the farm ...")
            local.down()
    if local.is_up:
        say("the farm is still up: 'pianofarm down' stops it")
    raise typer.Exit(1 if n_failed or batch.rejected else 0)


def _show(jobs: list[Job], folder: Path, *, as_json: bool) -> int:
    """Download every result and print the table; returns how many have none."""
    from rich.table import Table

    from pianofarm.cli.jobs import audio_name
    from pianofarm.cli.terminal import duration_text, print_json, say, table_console
    from pianofarm.handles import result_of
    from pianofarm_common.errors import Permanent

    table = Table()
    for name in ("piece", "length", "render time", "real-time factor", "loudness", "came from", "WAV", "storage key"):
        table.add_column(name, overflow="fold")
    n_failed = 0
    for job in jobs:
        try:
            result = result_of(job.services, job.status())
        except Permanent as error:
            n_failed += 1
            say(f"{job.name}: {error}")
            continue
        path = result.download(folder / audio_name(job, Path(result.info.audio_key).suffix))
        if as_json:
            print_json(_facts(job, result, path))
            continue
        info = result.info
        table.add_row(
            job.name,
            duration_text(info.audio_s),
            f"{info.render_s:.1f} s",
            f"{info.real_time_factor:.1f}x",
            "-" if info.loudness_lufs is None else f"{info.loudness_lufs:.1f} LUFS",
            "cache" if job.cached else "worker",
            _short(path),
            info.audio_key,
        )
    if not as_json:
        table_console().print(table)
    return n_failed


def _facts(job: Job, result: Result, path: Path) -> dict[str, object]:
    info = result.info
    return {
        "piece": job.name,
        "audio_s": info.audio_s,
        "render_s": info.render_s,
        "real_time_factor": info.real_time_factor,
        "loudness_lufs": info.loudness_lufs,
        "cached": job.cached,
        "path": str(path),
        "storage_key": info.audio_key,
        "sha256": info.audio_sha256,
    }


def _short(path: Path) -> str:
    """A path as seen from here, where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
