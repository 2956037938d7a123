"""The append-only history of a farm: one JSON object a line, a file a process, times of a clock that all processes share."""

import json
import os
import time
from pathlib import Path
from typing import Any


class History:
    """Appends; every line is in the file before `note` returns, so that SIGKILL loses none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid, self._file = 0, -1

    def note(self, kind: str, **fields: Any) -> None:
        if self._pid != os.getpid():  # after a fork
            self.folder.mkdir(parents=True, exist_ok=True)
            self._pid = os.getpid()
            self._file = os.open(self.folder / f"{self._pid}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        line = {"at_ns": time.monotonic_ns(), "pid": self._pid, "kind": kind} | fields
        os.write(self._file, (json.dumps(line) + "\n").encode())


def read(folder: Path) -> list[dict[str, Any]]:
    """All entries, oldest first; a line that is being written is left out."""
    entries = []
    for file in folder.glob("*.jsonl"):
        entries += [json.loads(line) for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return sorted(entries, key=lambda entry: entry["at_ns"])
