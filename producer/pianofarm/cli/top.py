"""`pianofarm top`: a live view of queues, workers, rates and the slowest renders; one look where nobody watches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pianofarm.live import Snapshot


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    interval: Annotated[float, typer.Option("--interval", "-n", min=0.2, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and leave.")] = False,
    slowest: Annotated[int, typer.Option("--slowest", min=0, max=100, help="Slow renders to show.")] = 5,
    json: shared.Json = False,
) -> None:
    """Watch the farm: queues, workers, rates, slowest renders. Ctrl-C ends it; elsewhere than on a terminal it looks once."""
    import sys
    import time

    from rich.live import Live
    from rich.text import Text

    from pianofarm.cli.terminal import print_json, table_console
    from pianofarm.live import LiveFarm
    from pianofarm_common.errors import ServiceUnavailable
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.ledger.census import CensusTaker
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    ledger, taker = Ledger.from_settings(settings), CensusTaker.from_settings(settings)
    try:
        farm = LiveFarm(ledger, taker, settings.assumed_speed)
        if json:
            print_json(snapshot_json(farm.look(slowest)))
            return
        console = table_console()
        if once or not sys.stdout.isatty():
            console.print(picture(farm.look(slowest), expand=sys.stdout.isatty()))
            return
        with Live(picture(farm.look(slowest)), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                try:
                    live.update(picture(farm.look(slowest)), refresh=True)
                except ServiceUnavailable as error:
                    # An outage is when people look: the view stays and comes back by itself.
                    live.update(Text(str(error), style="bold red"), refresh=True)
    finally:
        taker.close()
        ledger.close()


def picture(seen: Snapshot, *, expand: bool = True) -> RenderableType:
    """A snapshot for eyes; expanded to the whole width of a terminal, or as narrow as it can be."""
    from rich.console import Group
    from rich.table import Table

    from pianofarm.cli.terminal import duration_text

    queues = Table(title="queues", title_justify="left", expand=expand)
    queues.add_column("class")
    for head in ("waiting", "audio", "oldest", "in hand", "audio", "messages"):
        queues.add_column(head, justify="right")
    for name, counted in seen.census.classes.items():
        depth = counted.depth
        queues.add_row(
            f"{name} (paused)" if counted.is_paused else str(name),
            f"{depth.queued_renders:,}",
            duration_text(depth.queued_audio_s),
            duration_text(counted.oldest_s) if depth.queued_renders else "",
            f"{depth.running_renders:,}",
            duration_text(depth.running_audio_s),
            f"{counted.broker_messages:,}",
        )

    workers = Table(title=f"workers: {len(seen.at_work)}", title_justify="left", expand=expand)
    for head in ("name", "device", "done", "render", "model", "audio", "part", "since", "attempt"):
        workers.add_column(head, justify="left" if head in ("name", "device", "render", "model") else "right")
    for item in seen.at_work:
        render, worker = item.render, item.worker
        if render is None:
            workers.add_row(worker.name, worker.device, f"{worker.renders_done:,}", worker.rests or "idle")
            continue
        workers.add_row(
            worker.name,
            worker.device,
            f"{worker.renders_done:,}",
            render.key[:12],
            render.spec.model_name,
            duration_text(render.spec.audio_s),
            f"{render.fraction:.0%}",
            duration_text(item.elapsed_s),
            str(render.attempts),
        )

    slow = Table(title="slowest of the last renders", title_justify="left", expand=expand)
    for head in ("render", "model", "worker", "audio", "render time", "upload", "real-time factor"):
        slow.add_column(head, justify="left" if head in ("render", "model", "worker") else "right")
    for render in seen.slowest:
        result = render.result
        if result is not None:
            slow.add_row(
                render.key[:12],
                render.spec.model_name,
                result.worker,
                duration_text(result.audio_s),
                f"{result.render_s:.2f} s",
                f"{result.upload_s:.2f} s",
                f"{result.real_time_factor:.1f}",
            )
    parts: list[RenderableType] = [_summary(seen), queues, workers]
    return Group(*parts, slow) if seen.slowest else Group(*parts)


def _summary(seen: Snapshot) -> str:
    from pianofarm.cli.terminal import duration_text

    census = seen.census
    drain = "no worker is alive" if seen.drain_s is None else f"worked off in about {duration_text(seen.drain_s)}"
    troubles = [
        f"{count:,} {what}"
        for count, what in (
            (census.backoff_renders, "waiting for another try"),
            (census.quarantined_renders, "in quarantine"),
            (census.parked_messages, "messages parked"),
            (census.switches, "pauses and drains ('pianofarm status' names them)"),
            (census.paused_renders, "paused"),
            (census.barred_hosts, "hosts out of rotation"),
        )
        if count
    ]
    return (
        f"last minute: {seen.done_per_s:.2f} renders/s, {seen.audio_s_per_s:.1f} s of audio a second, "
        f"{seen.given_up_per_min:.0f} jobs failed; a worker makes {seen.speed:.1f} s of audio a second; {drain}"
        f"{'; ' + ', '.join(troubles) if troubles else ''}; Redis {census.redis_used_bytes / 1e6:.0f} MB"
    )


def snapshot_json(seen: Snapshot) -> dict[str, object]:
    """A snapshot for scripts."""
    from dataclasses import asdict

    return {
        "queues": {str(name): asdict(counted) for name, counted in seen.census.classes.items()},
        "backoff_renders": seen.census.backoff_renders,
        "quarantined_renders": seen.census.quarantined_renders,
        "parked_messages": seen.census.parked_messages,
        "switches": seen.census.switches,
        "paused_renders": seen.census.paused_renders,
        "barred_hosts": seen.census.barred_hosts,
        "redis_used_bytes": seen.census.redis_used_bytes,
        "workers": [
            {
                **asdict(item.worker),
                "fraction": item.render.fraction if item.render else None,
                "audio_s": item.render.spec.audio_s if item.render else None,
                "elapsed_s": item.elapsed_s,
            }
            for item in seen.at_work
        ],
        "done_per_s": seen.done_per_s,
        "audio_s_per_s": seen.audio_s_per_s,
        "given_up_per_min": seen.given_up_per_min,
        "speed": seen.speed,
        "drain_s": seen.drain_s,
        "slowest": [
            {"key": render.key, "real_time_factor": render.result.real_time_factor, "audio_s": render.result.audio_s}
            for render in seen.slowest
            if render.result
        ],
    }
