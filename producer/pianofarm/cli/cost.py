"""`pianofarm cost`: what an hour of audio and 1,000 pieces cost on every machine of the price table, and where owning pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm.cost import Estimate, Offer
    from pianofarm.prices import PriceTable
    from pianofarm.submission import Rejected
    from pianofarm_common.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(cost)


def cost(
    speed: Annotated[
        list[str] | None,
        typer.Option(
            "--speed",
            metavar="DEVICE=VALUE",
            help="Audio seconds one worker makes in a second on a device; repeatable.",
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="Price table; default: prices.toml in the state folder.")
    ] = None,
    piece: Annotated[
        float, typer.Option("--piece", metavar="SECONDS", min=0.1, max=1e6, help="Length of a piece.")
    ] = 180.0,
    utilization: Annotated[
        float, typer.Option("--utilization", min=0.01, max=1.0, help="Part of the paid time with work in hand.")
    ] = 0.7,
    kilobytes_per_s: Annotated[
        float,
        typer.Option(
            "--kilobytes-per-s", min=0.0, max=1e6, help="Size of a stored second: 48 is 16-bit mono WAV at 24 kHz."
        ),
    ] = 48.0,
    json: shared.Json = False,
) -> None:
    """Show what music costs, from measured speeds and your price table. Speeds not given are asked of the farm."""
    from pianofarm.cost import break_even, offers
    from pianofarm.prices import PriceTable
    from pianofarm_common.errors import BadOption
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    table = PriceTable.load(settings.state_dir, prices)
    speeds = parse_speeds(speed or []) or measured_speeds(settings)
    found = offers(table, speeds, piece_s=piece, utilization=utilization, audio_bytes_per_s=kilobytes_per_s * 1000)
    devices = sorted({machine.device for machine in table.machine})
    if not found:
        raise BadOption(
            f"no speed is known of any device in the price table ({', '.join(devices)}): render something on the farm, "
            "or say what you measured, e.g. --speed cpu=20"
        )
    rented = next((offer for offer in found if offer.kind == "on demand"), None)
    points = break_even(table, speeds, rented) if rented else []
    unknown = [name for name in devices if name not in speeds]
    if json:
        from pianofarm.cli.terminal import print_json

        print_json(
            {
                "currency": table.currency,
                "piece_s": piece,
                "utilization": utilization,
                "speeds": speeds,
                "offers": [_offer_json(offer) for offer in found],
                "break_even": [
                    {
                        "machine": point.owned.name,
                        "against": point.rented.machine.name,
                        "audio_h_per_year": point.audio_h_per_year,
                        "utilization": point.utilization,
                    }
                    for point in points
                ],
                "not_measured": unknown,
            }
        )
        return
    _show(table, found, piece, utilization)
    for point in points:
        where = (
            f"from {point.audio_h_per_year:,.0f} hours of audio a year on ({point.utilization:.1%} of its time)"
            if point.utilization <= 1
            else "never: it cannot make that much"
        )
        typer.echo(f"{point.owned.name} is cheaper than {point.rented.machine.name} {where}")
    if unknown:
        typer.echo(f"not measured, so not listed: {', '.join(unknown)} (--speed DEVICE=VALUE)")


def parse_speeds(texts: list[str]) -> dict[str, float]:
    """`DEVICE=VALUE` texts as numbers.

    Raises:
        BadOption: not of that form, or not a positive number.
    """
    from math import inf

    from pianofarm_common.errors import BadOption

    speeds: dict[str, float] = {}
    for text in texts:
        device, _, value = text.partition("=")
        try:
            speeds[device] = float(value)
        except ValueError:
            speeds[device] = 0.0
        if not device or not 0 < speeds[device] < inf:
            raise BadOption(f"--speed {text!r}: give DEVICE=VALUE with a positive number, e.g. cpu=20")
    return speeds


def measured_speeds(settings: Settings) -> dict[str, float]:
    """What the farm measured of its last renders, by kind of device; empty if it made none. Raises ServiceUnavailable."""
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.census import CensusTaker
    from pianofarm_common.speedometer import Speedometer

    ledger, taker = Ledger.from_settings(settings), CensusTaker.from_settings(settings)
    try:
        speedometer = Speedometer(settings.assumed_speed)
        speedometer.remember(ledger, taker)
        return speedometer.speeds()
    finally:
        taker.close()
        ledger.close()


def show_estimate(
    expected: Estimate, rejected: Sequence[Rejected], left_s: Mapping[str, float], *, as_json: bool
) -> None:
    """Print what a submission will take; for `pianofarm submit --estimate`. `left_s`: worker time in the budgets it comes under."""
    from dataclasses import asdict

    from pianofarm.cli.following import reason
    from pianofarm.cli.terminal import duration_text, print_json, rejection, say

    if as_json:
        budgets = {payer: {"left_s": left, "enough": left >= expected.worker_s} for payer, left in left_s.items()}
        rejections = [{"name": item.name, **reason(item.error)} for item in rejected]
        print_json({**asdict(expected), "budgets": budgets, "rejected": rejections})
        return
    for item in rejected:
        say(rejection(item))
    typer.echo(
        f"{expected.renders} renders, {duration_text(expected.audio_s)} of audio, {expected.cached} more in the cache; "
        f"{duration_text(expected.ahead_s)} of audio ahead of them"
    )
    if expected.likely_s is None or expected.latest_s is None:
        typer.echo("no worker is alive: start one ('pianofarm worker'), or nothing will be made")
    else:
        typer.echo(
            f"done in about {duration_text(expected.likely_s)}, {duration_text(expected.latest_s)} at the latest, "
            f"with {expected.workers} workers at {expected.speed:.1f} audio seconds a second each"
        )
    price = (
        "set PIANOFARM_WORKER_PRICE_PER_H to see its price"
        if expected.price is None
        else f"price {expected.price:.4f} at PIANOFARM_WORKER_PRICE_PER_H"
    )
    typer.echo(f"{duration_text(expected.worker_s)} of worker time, {price}")
    for payer, left in left_s.items():
        verdict = "enough" if left >= expected.worker_s else "NOT ENOUGH: the farm will stop at the limit"
        typer.echo(f"budget of {payer}: {duration_text(left)} of worker time left, {verdict}")


def _offer_json(offer: Offer) -> dict[str, object]:
    return {
        "machine": offer.machine.name,
        "kind": offer.kind,
        "audio_s_per_s": offer.speed,
        "per_audio_h": offer.per_audio_h,
        "per_1000_pieces": offer.per_1000_pieces,
    }


def _show(table: PriceTable, found: list[Offer], piece_s: float, utilization: float) -> None:
    from rich.table import Table

    from pianofarm.cli.terminal import table_console

    shown = Table(
        title=f"Prices in {table.currency}, pieces of {piece_s:g} s, machines busy {utilization:.0%} of the time"
    )
    for name in ("machine", "", "audio s / s"):
        shown.add_column(name, justify="left" if name != "audio s / s" else "right")
    shown.add_column("an hour of audio", justify="right")
    shown.add_column("1,000 pieces", justify="right")
    for offer in found:
        shown.add_row(
            offer.machine.name,
            offer.kind,
            f"{offer.speed:,.1f}",
            f"{offer.per_audio_h:.5f}",
            f"{offer.per_1000_pieces:.3f}",
        )
    table_console().print(shown)
