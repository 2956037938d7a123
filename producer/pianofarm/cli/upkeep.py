"""`pianofarm reconcile` and `pianofarm sweep`: what keeps a farm in order."""

from __future__ import annotations

from typing import Annotated

import typer

from pianofarm.cli import options as shared


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(reconcile)
    app.command()(sweep)


def reconcile(
    again: Annotated[bool, typer.Option("--render", help="Make damaged renders again.")] = False,
    read_audio: Annotated[
        bool, typer.Option("--read-audio", help="Read all wet audio and compare its digests; costs the transfer.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Compare the store with Redis: finished renders that Redis forgot come back, damaged ones are listed or made again.

    Run it after Redis lost its memory, or the bucket lost objects. It may run while the farm works.
    """
    from pianofarm import reconcile as work
    from pianofarm.cli.terminal import print_json, say
    from pianofarm.services import Services
    from pianofarm_common.settings import Settings

    services = Services(Settings.load())
    try:
        found = work.reconcile(services.ledger, services.store, read_audio=read_audio)
        done = work.render_again(services, found.damaged) if again else work.Repair([], [])
    finally:
        services.close()
    if json:
        print_json(
            {
                "whole": found.n_whole,
                "adopted": found.n_adopted,
                "damaged": [{"key": damage.key, "reason": damage.reason} for damage in found.damaged],
                "batch": done.tickets[0].batch if done.tickets else None,
                "rendered_again": [ticket.key for ticket in done.tickets],
                "lost": [damage.key for damage in done.lost],
            }
        )
    else:
        for damage in found.damaged:
            print(f"{damage.key}  {damage.reason}")
        for damage in done.lost:
            print(f"{damage.key}  cannot be made again, its MIDI is gone or unknown: submit it again")
        say(
            f"{found.n_whole} renders in the store, {found.n_adopted} of them new to Redis; {len(found.damaged)} damaged"
        )
        if done.tickets:
            say(f"{len(done.tickets)} are made again: pianofarm watch {done.tickets[0].batch}")
        elif found.damaged and not again:
            say("'pianofarm reconcile --render' makes them again")
    if done.lost or (found.damaged and not again):
        raise typer.Exit(1)


def sweep(
    once: Annotated[bool, typer.Option("--once", help="Sweep once and leave.")] = False, json: shared.Json = False
) -> None:
    """Publish again what nobody works on, until Ctrl-C. Any number of sweepers may run in a farm, one must."""
    import signal
    import threading

    from pianofarm.cli.terminal import print_json, say
    from pianofarm.services import Services
    from pianofarm_common.logs import configure
    from pianofarm_common.settings import Settings
    from pianofarm_worker.sweeper import run, sweep_once

    settings = Settings.load()
    if once:
        services = Services(settings)
        try:
            n_published = sweep_once(services.ledger, services.queue)
        finally:
            services.close()
        if json:
            print_json({"published": n_published})
        else:
            say(f"{n_published} renders published again")
        return
    configure(settings)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    run(settings, ending)
