"""Is this worker well? `python -m pianofarm_worker.probe live|ready [CLASS...]` answers an orchestrator by its exit code.

Asks the ledger, not the process table: a worker that lost its consumer after a reconnect of Redis still has a healthy process.
Probes one worker a host, which is what a container is.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Ledger, WorkerInfo
from pianofarm_common.queue import CLASSES, backlog, make_app
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore


def known(workers: Sequence[WorkerInfo], host: str) -> WorkerInfo | None:
    """The worker of this host in the register of the living; None where the ledger heard of none lately."""
    return next((worker for worker in workers if worker.host == host), None)


def consumes(worker: WorkerInfo | None, waiting: Mapping[PriorityClass, int], classes: Sequence[str]) -> str:
    """Why this worker seems not to consume, "" if it does.

    An idle worker with messages waiting for it is a moment's chance, so an orchestrator must see it several times in a row; a deaf
    worker shows it for ever.

    Args:
        worker: of this host, from the register.
        waiting: messages in the broker, by class.
        classes: that this worker serves.
    """
    if worker is None:
        return "the ledger has not heard of this worker lately: its child process is gone or hangs"
    n_waiting = sum(waiting[name] for name in CLASSES if name in classes)
    if n_waiting and not worker.key:
        return f"{n_waiting} messages wait in {', '.join(classes)} and this worker is idle"
    return ""


def live(settings: Settings, classes: Sequence[str]) -> str:
    """Why this worker should be started again, "" if it should not. Where Redis is gone nobody is deaf: a restart cures nothing."""
    ledger, app = Ledger.from_settings(settings), make_app(settings)
    try:
        return consumes(known(ledger.workers(), platform.node()), backlog(app), classes)
    except PianofarmError as error:
        sys.stderr.write(f"not probed: {error}\n")
        return ""
    finally:
        app.close()
        ledger.close()


def ready(settings: Settings, _classes: Sequence[str]) -> str:
    """Why this worker cannot work now, "" if it can: Redis, the object store and the register are asked."""
    ledger = Ledger.from_settings(settings)
    try:
        S3BlobStore.from_settings(settings).exists("probe")
        worker = known(ledger.workers(), platform.node())
    except PianofarmError as error:
        return str(error)
    finally:
        ledger.close()
    return "" if worker else "the ledger has not heard of this worker yet"


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
