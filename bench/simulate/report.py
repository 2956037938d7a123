"""Rows as Markdown tables and as plots. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.simulate.questions import BatchRun, LatencyRun, LoadRun, ScaleRun

#: The page that shows what was found.
PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulation.md"

#: Ink of the lines, told apart by everybody (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, its columns aligned for eyes."""
    cells = [list(heads), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join(
        [line(cells[0]), "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *map(line, cells[1:])]
    )


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def publish(part: str, text: str, page: Path = PAGE) -> None:
    """Put a text between `<!-- part -->` and `<!-- end -->` of the page.

    Raises:
        ValueError: the page has no such place.
    """
    before, mark, rest = page.read_text().partition(f"<!-- {part} -->\n")
    if not mark or "<!-- end -->" not in rest:
        raise ValueError(f"{page} has no place for {part}: it needs <!-- {part} --> and <!-- end -->")
    page.write_text(f"{before}{mark}{text.strip()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def plot_pool(runs: Mapping[str, Sequence[BatchRun]], within_s: float, path: Path) -> None:
    """How long a batch takes over the size of the pool."""
    figure, axes = _figure("A batch over the size of the pool", "workers", "time to finish, minutes")
    for colour, (name, found) in zip(COLOURS, runs.items(), strict=False):
        axes.plot([run.workers for run in found], [run.took_s / 60 for run in found], "o-", color=colour, label=name)
    axes.axhline(within_s / 60, color="black", linestyle="--", linewidth=1, label="wanted")
    axes.set(xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=110)


def plot_concurrency(runs: Sequence[LatencyRun], path: Path) -> None:
    """Latency over the number of open requests: flat up to the pool's size, then a straight line (Little's law)."""
    figure, axes = _figure(
        f"Latency over concurrency, {runs[0].workers} workers", "requests open at the same time", "latency, seconds"
    )
    for colour, name in zip(COLOURS, ("p50_s", "p95_s", "p99_s"), strict=False):
        axes.plot(
            [run.concurrent for run in runs],
            [getattr(run, name) for run in runs],
            "o-",
            color=colour,
            label=name[:3].upper(),
        )
    axes.set(xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=110)


def plot_load(runs: Sequence[LoadRun], workers: int, path: Path) -> None:
    """Latency over the load of requests at random moments."""
    figure, axes = _figure(f"Latency over load, {workers} workers", "load, part of capacity", "latency, seconds")
    for colour, name in zip(COLOURS, ("p50_s", "p95_s", "p99_s"), strict=False):
        axes.plot(
            [run.load for run in runs], [getattr(run, name) for run in runs], "o-", color=colour, label=name[:3].upper()
        )
    axes.set(yscale="log")
    axes.legend()
    figure.savefig(path, dpi=110)


def plot_scaling(runs: Sequence[ScaleRun], path: Path) -> None:
    """Workers and waiting renders over time, for different cold starts."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(7.2, 5.6), sharex=True, layout="constrained")
    for colour, run in zip(COLOURS, runs, strict=False):
        minutes = [moment / 60 for moment, _, _ in run.over_time]
        label = f"cold start {run.cold_start_s:g} s"
        above.plot(minutes, [alive for _, alive, _ in run.over_time], color=colour, label=label, linewidth=1)
        below.plot(minutes, [waiting for _, _, waiting in run.over_time], color=colour, label=label, linewidth=1)
    above.set(title="Waves of work under the autoscaler", ylabel="workers")
    below.set(xlabel="minutes", ylabel="renders waiting")
    above.legend()
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
