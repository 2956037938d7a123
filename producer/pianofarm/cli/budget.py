"""`pianofarm budget`: how much a batch or an owner may use; work stops at the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm_common.ledger.budgets import Budget, Payer
    from pianofarm_common.settings import Settings

app = typer.Typer(help="Budgets of batches and owners: work stops at the limit.", no_args_is_help=True)

Kind = Annotated[Literal["batch", "owner"], typer.Argument(help="What has the budget.")]
Name = Annotated[str, typer.Argument(help="Id of the batch, or the owner as given to 'submit --owner'.")]


@app.command("set")
def set_(
    kind: Kind,
    name: Name,
    price: Annotated[
        float | None, typer.Option("--price", min=0.0, help="In the currency of PIANOFARM_WORKER_PRICE_PER_H.")
    ] = None,
    worker_hours: Annotated[float | None, typer.Option("--worker-hours", min=0.0, help="In time of workers.")] = None,
) -> None:
    """Give a budget, or change one. What was spent stays spent; cancelled jobs can be submitted again."""
    from pianofarm_common.errors import BadOption
    from pianofarm_common.settings import Settings

    if (price is None) == (worker_hours is None):
        raise BadOption("give --price or --worker-hours")
    settings = Settings.load()
    limit_s = worker_hours * 3600.0 if worker_hours is not None else price_as_worker_s(price or 0.0, settings)
    if kind == "batch":
        from pianofarm.client import Farm

        with Farm(settings) as farm:
            # A slip of the pen must not look like a limit.
            farm.batch(name).status()
    give(settings, kind, name, limit_s)
    typer.echo(f"{kind} {name}: {limit_s / 3600:.3f} worker hours")


@app.command()
def show(kind: Kind, name: Name, json: shared.Json = False) -> None:
    """Show a budget and what of it was spent."""
    from pianofarm_common.errors import NotFound
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.budgets import Budgets, Payer
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    ledger = Ledger.from_settings(settings)
    budgets = Budgets.from_settings(ledger, settings)
    try:
        found = budgets.get(Payer(kind, name))
    finally:
        budgets.close()
        ledger.close()
    if found is None:
        raise NotFound(f"no budget of {kind} {name!r}: give one with 'pianofarm budget set'")
    _print(Payer(kind, name), found, settings, as_json=json)


@app.command()
def remove(kind: Kind, name: Name) -> None:
    """Take a budget away: from then on there is no limit."""
    from pianofarm_common.errors import NotFound
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.budgets import Budgets, Payer
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    ledger = Ledger.from_settings(settings)
    budgets = Budgets.from_settings(ledger, settings)
    try:
        if not budgets.remove(Payer(kind, name)):
            raise NotFound(f"no budget of {kind} {name!r}")
    finally:
        budgets.close()
        ledger.close()


def price_as_worker_s(price: float, settings: Settings) -> float:
    """A price as time of workers.

    Raises:
        BadOption: the price of a worker is not set.
    """
    from pianofarm_common.errors import BadOption

    if settings.worker_price_per_h <= 0:
        raise BadOption("a budget in money needs the price of a worker: set PIANOFARM_WORKER_PRICE_PER_H")
    return price / settings.worker_price_per_h * 3600.0


def what_is_left(settings: Settings, price: float | None, owner: str) -> dict[str, float]:
    """Worker time that a new batch may use, in seconds: of its own budget at this price, and of its owner's, where they have one.

    Raises:
        BadOption: the price of a worker is not set.
        ServiceUnavailable: Redis does not answer.
    """
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.budgets import Budgets, Payer

    left_s = {} if price is None else {"this batch": price_as_worker_s(price, settings)}
    ledger = Ledger.from_settings(settings)
    budgets = Budgets.from_settings(ledger, settings)
    try:
        found = budgets.get(Payer("owner", owner)) if owner else None
    finally:
        budgets.close()
        ledger.close()
    if found is not None:
        left_s[f"owner {owner}"] = max(0.0, found.limit_s - found.spent_s)
    return left_s


def give(settings: Settings, kind: Literal["batch", "owner"], name: str, limit_s: float) -> None:
    """Set a budget. Raises ServiceUnavailable, and BadOption for a limit that is none."""
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.budgets import Budgets, Payer

    ledger = Ledger.from_settings(settings)
    budgets = Budgets.from_settings(ledger, settings)
    try:
        budgets.set(Payer(kind, name), limit_s)
    finally:
        budgets.close()
        ledger.close()


def _print(payer: Payer, budget: Budget, settings: Settings, *, as_json: bool) -> None:
    from pianofarm.cli.terminal import print_json

    price = settings.worker_price_per_h / 3600.0
    if as_json:
        print_json(
            {
                "kind": payer.kind,
                "name": payer.name,
                "limit_s": budget.limit_s,
                "spent_s": budget.spent_s,
                "used_up": budget.is_used_up,
            }
        )
        return
    money = f" ({budget.spent_s * price:.4f} of {budget.limit_s * price:.4f})" if price else ""
    typer.echo(
        f"{payer}: {budget.spent_s:.1f} of {budget.limit_s:.1f} s of worker time{money}{', used up' if budget.is_used_up else ''}"
    )
