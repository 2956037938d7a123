"""A clock that a test sets while a process runs: libfaketime, loaded into that process alone. The machine's own clock is never touched.

What is set is the time of day; monotonic clocks go on as they do when an administrator or NTP sets the time.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

_PROBE = "import time; print(time.time())"


def library() -> Path | None:
    """The shared object, where it is installed and made for this machine."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    if not file.exists():
        return None
    env = os.environ | {"LD_PRELOAD": str(file), "FAKETIME": "-3650d"}
    told, asked = (
        float(
            subprocess.run([sys.executable, "-c", _PROBE], env=each, capture_output=True, text=True, check=True).stdout
        )
        for each in (env, os.environ)
    )
    return file if told < asked - 1e6 else None


class Clock:
    """The time of day of all processes that run in `environ`."""

    def __init__(self, file: Path) -> None:
        self._file, self.ahead_s = file, 0
        self.move(0)

    def move(self, seconds: int) -> None:
        """Set the clock forward, or back where negative."""
        self.ahead_s += seconds
        part = self._file.with_suffix(".part")
        part.write_text(f"{self.ahead_s:+d}\n")
        part.rename(self._file)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
