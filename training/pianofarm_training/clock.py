"""How long a training has taken by the clock, over all its runs, and the machine that it ran on. Decides nothing."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Clock:
    """Seconds by part of the work, kept in a file, so that a run which goes on with another's work counts that one's time."""

    def __init__(self, path: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        """Take up what earlier runs noted.

        Args:
            path: of the file; another folder's work is another's time.
            now_s: tells the time.
        """
        self._path, self._now_s = path, now_s
        self._seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def seconds(self, name: str) -> float:
        """Of a part, all runs together."""
        return self._seconds.get(name, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[Callable[[], None]]:
        """Time a part of the work.

        Yields:
            What notes the time so far: all that a killed run took since it was last called is lost.
        """
        before, began = self.seconds(name), self._now_s()

        def note() -> None:
            self._seconds[name] = before + self._now_s() - began
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._path.with_suffix(".part")
            unfinished.write_text(json.dumps(self._seconds, indent=1) + "\n")
            unfinished.rename(self._path)

        try:
            yield note
        finally:
            note()


def machine() -> str:
    """The cores this process may use, and the processor, as found: `2 cores of AMD EPYC (family 25 model 17)`."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{n_cores} {'core' if n_cores == 1 else 'cores'} of {_processor()}"


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    except OSError:
        fields = {}
    known = {name.strip(): value.strip() for name, value in fields.items()}
    if "model name" not in known:
        return platform.processor() or platform.machine()
    return f"{known['model name']} (family {known.get('cpu family', '?')} model {known.get('model', '?')})"
