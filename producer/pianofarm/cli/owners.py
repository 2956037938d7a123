"""`pianofarm owners`: who waits with how much, and whose share of a class is larger."""

from __future__ import annotations

from typing import Annotated

import typer

from pianofarm.cli import options as shared

app = typer.Typer(help="Owners and their shares of a class: who waits, who gets how much.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The owner, as given to 'submit --owner'; '' for all who named none.")]


@app.command("list")
def list_(json: shared.Json = False) -> None:
    """List the owners that have a weight or something waiting for their turn; what is published already is not counted."""
    from contextlib import closing

    from pianofarm.cli.terminal import print_json
    from pianofarm_common.ledger.shares import Shares
    from pianofarm_common.settings import Settings

    with closing(Shares.from_settings(Settings.load())) as shares:
        found = shares.all()
    for share in found:
        if json:
            waiting = {str(name): n_renders for name, n_renders in share.waiting.items()}
            print_json({"owner": share.owner, "weight": share.weight, "waiting": waiting})
        else:
            waits = ", ".join(f"{n_renders:,} {name}" for name, n_renders in share.waiting.items()) or "nothing"
            print(f"{share.owner or '(no owner)'}  weight {share.weight:g}, waiting: {waits}")


@app.command()
def weight(
    name: Name, weight: Annotated[float, typer.Argument(help="From 0.001 to 1000; everybody else has 1.")]
) -> None:
    """Give an owner a weight: while several wait, each gets audio-seconds by its weight. It holds from the next render on."""
    from contextlib import closing

    from pianofarm_common.ledger.shares import Shares
    from pianofarm_common.settings import Settings

    with closing(Shares.from_settings(Settings.load())) as shares:
        if weight == 1:
            shares.remove_weight(name)
        else:
            shares.set_weight(name, weight)
    print(f"{name or '(no owner)'}  weight {weight:g}")
