"""`pianofarm pause`, `drain`, `resume` and `hosts`: what operators hold back, and which hosts get no work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm_common.ledger.switches import Kind

Queue = Annotated[str | None, typer.Option("--queue", metavar="CLASS", help="interactive, standard or bulk.")]
Owner = Annotated[str | None, typer.Option("--owner", help="An owner, as given to 'submit --owner'.")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="ID", help="A batch, as 'submit' printed it.")]

hosts = typer.Typer(help="Hosts: what died on them, and which are out of rotation.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (pause, drain, resume):
        app.command()(command)
    app.add_typer(hosts, name="hosts")


def pause(queue: Queue = None, owner: Owner = None, batch: Batch = None) -> None:
    """Start nothing of a queue, an owner or a batch until 'resume'. What runs goes on; nothing is lost."""
    from pianofarm.client import Farm

    kind, name = _chosen(queue, owner, batch)
    with Farm.from_env() as farm:
        farm.pause(kind, name)
    print(f"{kind} {name} is paused: 'pianofarm resume --{kind} {name}' goes on")


def drain(queue: Queue = None, owner: Owner = None, batch: Batch = None) -> None:
    """Accept nothing new for a queue, an owner or a batch until 'resume'. What was accepted is made."""
    from pianofarm.client import Farm

    kind, name = _chosen(queue, owner, batch)
    with Farm.from_env() as farm:
        farm.drain(kind, name)
    print(f"{kind} {name} takes nothing new: 'pianofarm resume --{kind} {name}' opens it again")


def resume(queue: Queue = None, owner: Owner = None, batch: Batch = None) -> None:
    """End a pause or a drain."""
    from pianofarm.client import Farm

    kind, name = _chosen(queue, owner, batch)
    with Farm.from_env() as farm:
        ended = farm.resume(kind, name)
    print(f"{kind} {name} {'goes on' if ended else 'was neither paused nor draining'}")


@hosts.command("list")
def list_(json: shared.Json = False) -> None:
    """List the hosts: workers, renders that died there and nowhere else, and whether that is the job or the machine."""
    from contextlib import closing
    from dataclasses import asdict

    from pianofarm.cli.terminal import print_json
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.hosts import Hosts
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    with closing(Ledger.from_settings(settings)) as ledger, closing(Hosts.from_settings(ledger, settings)) as found:
        for host in found.all():
            if json:
                print_json({**asdict(host), "verdict": host.verdict})
            else:
                state = f"out of rotation ({host.why})" if host.why else "in rotation"
                print(f"{host.name}  {host.workers} workers, {state}: {host.verdict}")


@hosts.command("drain")
def bar(name: Annotated[str, typer.Argument(help="A host, as 'hosts list' prints it.")]) -> None:
    """Take a host out of rotation: its workers end what they have and take no more, until 'hosts restore'."""
    from contextlib import closing

    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.hosts import Hosts
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    with closing(Ledger.from_settings(settings)) as ledger, closing(Hosts.from_settings(ledger, settings)) as found:
        found.bar(name, "drained by an operator")
    print(f"{name} gets no more work: 'pianofarm hosts restore {name}' ends that")


@hosts.command()
def restore(name: Annotated[str, typer.Argument(help="A host, as 'hosts list' prints it.")]) -> None:
    """Give a host work again, and forget what died on it."""
    from contextlib import closing

    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.hosts import Hosts
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    with closing(Ledger.from_settings(settings)) as ledger, closing(Hosts.from_settings(ledger, settings)) as found:
        was_out = found.restore(name)
    print(f"{name} {'gets work again' if was_out else 'was not out of rotation'}")


def _chosen(queue: str | None, owner: str | None, batch: str | None) -> tuple[Kind, str]:
    """The one thing that was named.

    Raises:
        BadOption: none, or several.
    """
    from pianofarm_common.errors import BadOption

    named: list[tuple[Kind, str | None]] = [("queue", queue), ("owner", owner), ("batch", batch)]
    chosen = [(kind, name) for kind, name in named if name is not None]
    if len(chosen) != 1:
        raise BadOption("give one of --queue, --owner and --batch")
    return chosen[0]
