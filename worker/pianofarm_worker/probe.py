"""Is this worker well? `python -m pianofarm_worker.probe live|ready [CLASS...]` answers an orchestrator by its exit code.

Asks the ledger, not the process table: a worker that lost its consumer after a reconnect of Redis still has a healthy process.
Probes the one worker of this host, which is what a container has.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Ledger, WorkerInfo
from pianofarm_common.queue import CLASSES, backlog, make_app
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

#: Where one probe leaves for the next what it saw.
SEEN_FILE = "pianofarm-probe.json"


@dataclass(frozen=True)
class Sight:
    """What a probe saw of the worker and its queues."""

    name: str
    renders_done: int
    idle: bool
    n_waiting: int  #: messages in the broker that this worker should take

    @property
    def suspicious(self) -> bool:
        """Work waits, and the worker has none in hand: chance, or deafness."""
        return self.idle and self.n_waiting > 0


def this_worker(workers: Sequence[WorkerInfo], host: str) -> WorkerInfo | None:
    """The worker of this host in the register of the living; None where the ledger heard of none lately."""
    return next((worker for worker in workers if worker.host == host), None)


def look(worker: WorkerInfo, waiting: Mapping[PriorityClass, int], classes: Sequence[str]) -> Sight:
    """What there is to see now."""
    n_waiting = sum(waiting[name] for name in CLASSES if name in classes)
    return Sight(worker.name, worker.renders_done, idle=not worker.key and not worker.rests, n_waiting=n_waiting)


def verdict(now: Sight, before: Sight | None) -> str:
    """Why the worker seems deaf, "" if it does not.

    One look proves nothing: a worker of fast renders is often between two of them. A deaf one did nothing between two looks.
    """
    if before is None or not (now.suspicious and before.suspicious):
        return ""
    if (now.name, now.renders_done) != (before.name, before.renders_done):
        return ""
    return f"{now.n_waiting} messages wait, and this worker took none since the last probe: it no longer consumes"


def live(settings: Settings, classes: Sequence[str]) -> str:
    """Why this worker should be started again, "" if it should not. Where Redis is gone a restart cures nothing."""
    ledger, app = Ledger.from_settings(settings), make_app(settings)
    try:
        worker, waiting = this_worker(ledger.workers(), platform.node()), backlog(app)
    except PianofarmError as error:
        sys.stderr.write(f"not probed: {error}\n")
        return ""
    finally:
        app.close()
        ledger.close()
    if worker is None:
        return "the ledger has not heard of this worker lately: its child process is gone or hangs"
    seen = Path(tempfile.gettempdir()) / SEEN_FILE
    now, before = look(worker, waiting, classes), _read(seen)
    seen.write_text(json.dumps(asdict(now)))
    return verdict(now, before)


def ready(settings: Settings, _classes: Sequence[str]) -> str:
    """Why this worker cannot work now, "" if it can: Redis, the object store and the register are asked."""
    ledger = Ledger.from_settings(settings)
    try:
        S3BlobStore.from_settings(settings).exists("probe")
        worker = this_worker(ledger.workers(), platform.node())
    except PianofarmError as error:
        return str(error)
    finally:
        ledger.close()
    return "" if worker else "the ledger has not heard of this worker yet"


def _read(seen: Path) -> Sight | None:
    try:
        return Sight(**json.loads(seen.read_text()))
    except (OSError, ValueError, TypeError):
        return None


PROBES: dict[str, Callable[[Settings, Sequence[str]], str]] = {"live": live, "ready": ready}


def main(arguments: Sequence[str]) -> int:
    """Run one probe: exit code 0 for well, 1 for not well, 2 for a wrong request."""
    if not arguments or arguments[0] not in PROBES or not set(arguments[1:]) <= set(CLASSES):
        sys.stderr.write(f"usage: python -m pianofarm_worker.probe {'|'.join(PROBES)} [{'|'.join(CLASSES)}]...\n")
        return 2
    try:
        why = PROBES[arguments[0]](Settings.load(), arguments[1:] or CLASSES)
    except PianofarmError as error:
        why = str(error)
    if why:
        sys.stderr.write(f"{why}\n")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
