"""What commands show: a progress bar with an estimate on a terminal, plain lines elsewhere, JSON for scripts. Decides nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from pianofarm.submission import Rejected

#: Elsewhere than on a terminal a line is written at most this often, and when something ends.
PLAIN_EVERY_S = 5.0


def say(text: str) -> None:
    """A line for people: on standard error, so that standard output carries results only."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def native_messages_in(log: Path) -> Iterator[None]:
    """Send what libraries written in C++ print on their own to a file; Python's standard error stays where it is.

    TensorFlow 2.21 prints lines about itself before any of its settings for silence apply.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:
        target = os.open(os.devnull, os.O_WRONLY)
    before, real = sys.stderr, os.dup(2)
    before.flush()
    if before is sys.__stderr__:
        sys.stderr = os.fdopen(real, "w", buffering=1, closefd=False)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        os.dup2(real, 2)
        sys.stderr = before
        os.close(real)


def print_json(value: Any) -> None:
    """One JSON object a line on standard output."""
    print(json.dumps(value, default=str), flush=True)


def table_console() -> Console:
    """Where tables go: standard output, wide enough to keep paths whole where nobody watches."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 500, highlight=False)


def rejection(item: Rejected) -> str:
    """A source that cannot be rendered, by its name, and why."""
    return f"rejected: {item.error}" if item.name in str(item.error) else f"rejected: {item.name}: {item.error}"


def duration_text(seconds: float) -> str:
    """Minutes and seconds: 3:05.2."""
    minutes, rest = divmod(max(0.0, seconds), 60.0)
    return f"{int(minutes)}:{rest:04.1f}"


class Meter:
    """How far something is, with an estimate of the time left. A context manager."""

    def __init__(self, label: str, total: float, *, counts: bool = False, quiet: bool = False) -> None:
        """Args: label; total: what `update` counts up to; counts: show "3/10" instead of "30%"; quiet: show nothing."""
        self._label, self._total, self._quiet = label, total, quiet
        self._began = time.monotonic()
        self._last_line = self._began
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = _bar(counts)
            self._task = self._bar.add_task(label, total=total, note="")
        self._counts = counts

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, note: str = "") -> None:
        """Say how far it is."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif not self._quiet and time.monotonic() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            say(self._line(done, note))

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif not self._quiet:
            say(text)

    def _line(self, done: float, note: str) -> str:
        how_far = (
            f"{done:.1f}/{self._total:g}"
            if self._counts
            else f"{100 * done / self._total if self._total else 100:.0f}%"
        )
        elapsed_s = time.monotonic() - self._began
        left = (
            f", about {duration_text(elapsed_s * (self._total - done) / done)} left" if 0 < done < self._total else ""
        )
        return f"{self._label}: {how_far} after {duration_text(elapsed_s)}{left}{' - ' + note if note else ''}"


def _bar(counts: bool) -> Progress:
    """A progress bar; rich is imported only where somebody watches."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn() if counts else progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
