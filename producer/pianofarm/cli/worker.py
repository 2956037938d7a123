"""`pianofarm worker`: the workers of this host in the foreground, one per GPU or per core, for a farm that is elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    cpu: Annotated[
        int | None, typer.Option("--cpu", metavar="N", min=0, help="N workers on CPU cores; 0: one a core.")
    ] = None,
    sweeper: Annotated[
        bool, typer.Option("--sweeper/--no-sweeper", help="Also look for lost work; one a farm must.")
    ] = True,
) -> None:
    """Run one worker per GPU of this host, each pinned to its own, until Ctrl-C or SIGTERM."""
    from pianofarm.cli.terminal import say
    from pianofarm.local.plan import StateFolder
    from pianofarm.local.supervisor import Plan, Supervisor
    from pianofarm.local.workers import worker_programs
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.settings import Settings
    from pianofarm_common.storage import S3BlobStore

    settings = Settings.load()
    programs = worker_programs(settings, cpu, sweeper=sweeper)
    # Better one line now than a log that repeats it.
    ledger = Ledger.from_settings(settings)
    redis = ledger.ping()
    ledger.close()
    store = S3BlobStore.from_settings(settings)
    store.ensure_bucket()
    store.close()
    folder = StateFolder(settings.state_dir.absolute())
    folder.make()
    made = programs(folder)
    names = ", ".join(program.name for program in made)

    def started() -> None:
        say(f"started {names} on Redis {redis}; logs in {folder.logs}; Ctrl-C stops them")

    Supervisor(Plan(programs=made, status=str(folder.root / "workers.json"))).run(started)
    say("stopped; what was being rendered is handed back to the farm")
