"""`pianofarm quarantine`: renders that killed their workers (look, try again, forget), messages that nobody could read."""

from __future__ import annotations

from typing import Annotated

import typer

from pianofarm.cli import options as shared

app = typer.Typer(
    help="Renders that killed their workers: list them, try them again, forget them.", no_args_is_help=True
)


@app.command("list")
def list_(json: shared.Json = False) -> None:
    """List the renders in quarantine, newest first, with the evidence: the MIDI, the workers, what ended them, their memory."""
    from pianofarm.cli.terminal import print_json
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.settings import Settings
    from pianofarm_common.storage import midi_object

    ledger = Ledger.from_settings(Settings.load())
    for render in ledger.quarantined():
        if json:
            print_json(
                {
                    "key": render.key,
                    "model": render.spec.model_name,
                    "performance_sha256": render.spec.performance_sha256,
                    "midi": midi_object(render.spec.performance_sha256),
                    "audio_s": render.spec.audio_s,
                    "attempts": render.attempts,
                    "kills": render.kills,
                    "worker": render.worker,
                    "error": render.error,
                    "finished_at": render.finished_at,
                    "waiting_jobs": render.waiting_jobs,
                }
            )
        else:
            print(
                f"{render.key}  {render.spec.model_name}, {render.spec.audio_s:.1f} s, {render.waiting_jobs} jobs,"
                f" {midi_object(render.spec.performance_sha256)}: {render.error}"
            )
    ledger.close()


@app.command()
def retry(
    keys: Annotated[list[str] | None, typer.Argument(help="Render keys, as 'list' prints them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All renders in quarantine.")] = False,
) -> None:
    """Give renders a fresh set of attempts; the jobs that waited for them wait again. Works for failed renders as well."""
    from pianofarm_common.errors import BadOption
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.queue import make_app, publish
    from pianofarm_common.renders import RenderKey
    from pianofarm_common.settings import Settings

    if bool(keys) == every:
        raise BadOption("give render keys or --all ('pianofarm quarantine list' shows them)")
    settings = Settings.load()
    ledger, queue = Ledger.from_settings(settings), make_app(settings)
    chosen = [RenderKey(key) for key in keys or []] or [render.key for render in ledger.quarantined()]
    for key in chosen:
        publication = ledger.retry(key)
        if publication is None:
            print(f"{key}  is neither failed nor in quarantine: left as it is")
            continue
        publish(queue, publication.priority, publication.keys)
        print(f"{key}  queued again")
    queue.close()
    ledger.close()


@app.command()
def drop(
    keys: Annotated[list[str] | None, typer.Argument(help="Render keys, as 'list' prints them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All renders in quarantine.")] = False,
) -> None:
    """Forget renders in quarantine: their jobs stay quarantined, and a new submission of the same is tried anew."""
    from pianofarm_common.errors import BadOption
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.renders import RenderKey
    from pianofarm_common.settings import Settings

    if bool(keys) == every:
        raise BadOption("give render keys or --all ('pianofarm quarantine list' shows them)")
    ledger = Ledger.from_settings(Settings.load())
    for key in [RenderKey(key) for key in keys or []] or [render.key for render in ledger.quarantined()]:
        print(f"{key}  {'forgotten' if ledger.drop(key) else 'is not in quarantine: left as it is'}")
    ledger.close()


@app.command()
def parked(json: shared.Json = False) -> None:
    """Show the queue messages that no worker could read, newest first, with the reason. The last 1,000 are kept."""
    from pianofarm.cli.terminal import print_json
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.settings import Settings

    ledger = Ledger.from_settings(Settings.load())
    for message, reason in ledger.parked():
        if json:
            print_json({"message": message, "reason": reason})
        else:
            print(f"{reason}: {message}")
    ledger.close()
