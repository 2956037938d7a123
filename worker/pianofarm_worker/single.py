"""One worker in the place of this process: `python -m pianofarm_worker.single [CLASS...]` is how a container runs.

Sees to it that the bucket is there, then becomes the worker that `devices` describes, for the named classes only (none: all of
them). Several GPUs are refused: a container is one worker, so that whoever counts containers counts workers.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from pianofarm_common.errors import BadSettings, Permanent, PianofarmError, ServiceUnavailable
from pianofarm_common.queue import CLASSES
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore
from pianofarm_worker.devices import WorkerProcess, gpus, worker_commands

#: A store that starts together with the workers is waited for this long; then the container ends and is started again.
STORE_WAIT_S = 60.0


def the_worker(settings: Settings, classes: Sequence[str]) -> WorkerProcess:
    """The only worker of this container, serving `classes`.

    Raises:
        BadSettings: no such class, or more than one GPU to work on.
    """
    unknown = [name for name in classes if name not in CLASSES]
    if unknown:
        raise BadSettings(f"no class {unknown[0]!r}: name any of {', '.join(CLASSES)}")
    found = gpus()
    if len(found) > 1:
        raise BadSettings(
            f"{len(found)} GPUs are visible ({', '.join(found)}), and a container is one worker on one GPU: give it one "
            "(NVIDIA_VISIBLE_DEVICES), or run `pianofarm worker`, which starts one worker per GPU"
        )
    worker = worker_commands(settings, None if found else 1)[0]
    # The name of a Celery node ends in the host's, which a container has to itself.
    served = f"--queues={','.join(name for name in CLASSES if name in classes or not classes)}"
    argv = tuple(served if part.startswith("--queues=") else part for part in worker.argv)
    return WorkerProcess(worker.name, argv, worker.env)


def wait_for(ready: Callable[[], None], limit_s: float, pause: Callable[[float], None] = time.sleep) -> None:
    """Call `ready` until it raises nothing, at most about `limit_s`.

    Raises:
        ServiceUnavailable: it still does not answer.
    """
    pause_s, deadline = 0.5, time.monotonic() + limit_s
    while True:
        try:
            ready()
        except ServiceUnavailable:
            if time.monotonic() + pause_s > deadline:
                raise
            pause(pause_s)
            pause_s = min(5.0, 2 * pause_s)
        else:
            return


def main(arguments: Sequence[str]) -> NoReturn:
    """Become the worker, or end: exit code 2 for a wrong request, 3 for a service that is not there."""
    try:
        settings = Settings.load()
        worker = the_worker(settings, arguments)
        wait_for(S3BlobStore.from_settings(settings).ensure_bucket, STORE_WAIT_S)
    except PianofarmError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, Permanent) else 3)
    # What the operator set wins: thread counts, log levels of the libraries.
    os.environ.update({name: value for name, value in worker.env.items() if name not in os.environ})
    os.execv(worker.argv[0], worker.argv)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
