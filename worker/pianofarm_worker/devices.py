"""Devices of this host: which worker processes to start, on what each computes, pinned. Never imports an array library.

`python -m pianofarm_worker.devices CORES COMMAND...` pins itself to cores, then becomes the command.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from pianofarm_common.errors import BadSettings
from pianofarm_common.queue import CLASSES
from pianofarm_common.settings import Settings


@dataclass(frozen=True)
class WorkerProcess:
    """How to start one worker."""

    name: str  #: unique on this host, for example "gpu0" or "cpu3"
    argv: tuple[str, ...]
    env: dict[str, str]  #: to be added to the environment of whoever starts it


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` takes them.

    From that variable if it is set (CUDA ignores what follows an invalid entry), else from the device files of the driver.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or visible == "NoDevFiles":
        numbers = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
        return [str(number) for number in sorted(int(match.group(1)) for match in numbers if match)]
    found: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name.startswith("-"):
            break
        found.append(name)
    return found


def cores() -> list[int]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def device_name() -> str:
    """What this worker process computes on, for people: "cpu" or "gpu:NAME"."""
    found = gpus()
    return f"gpu:{found[0]}" if found else "cpu"


def worker_commands(settings: Settings, cpu: int | None = None) -> list[WorkerProcess]:
    """The workers of this host: one per GPU; where there is none, or if asked for, CPU workers.

    Args:
        settings: threads per worker, log level.
        cpu: number of CPU workers (0: one a core); None: GPUs if there are any, else `local_workers` CPU workers.

    Raises:
        BadSettings: a negative number was asked for.
    """
    if cpu is not None and cpu < 0:
        raise BadSettings(f"--cpu {cpu}: give the number of CPU workers, or 0 for one a core")
    found = gpus() if cpu is None else []
    if found:
        return [_on_gpu(settings, number, name) for number, name in enumerate(found)]
    usable = cores()
    n_workers = cpu or (settings.local_workers if cpu is None else 0) or len(usable)
    # Pinned only where the workers fill the host: on one that others use too, the scheduler knows better.
    pinned = settings.threads_per_worker > 0 and n_workers * settings.threads_per_worker == len(usable)
    return [_on_cpu(settings, number, usable if pinned else []) for number in range(n_workers)]


def _on_gpu(settings: Settings, number: int, name: str) -> WorkerProcess:
    env = {
        "CUDA_VISIBLE_DEVICES": name,
        # Both libraries would take the whole memory of the device at their first operation.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    return WorkerProcess(f"gpu{number}", tuple(_celery(settings, f"gpu{number}")), _common_env() | env)


def _on_cpu(settings: Settings, number: int, usable: list[int]) -> WorkerProcess:
    env, n_threads = {"CUDA_VISIBLE_DEVICES": "-1"}, settings.threads_per_worker
    if n_threads:
        env |= {"TF_NUM_INTRAOP_THREADS": str(n_threads), "TF_NUM_INTEROP_THREADS": str(n_threads)}
        # The engine shares a render among threads of its own. A product of it is too small for a library to share: threads
        # of OpenBLAS that wait for their part take more of a core than it.
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    argv = _celery(settings, f"cpu{number}")
    if usable:
        mine = usable[number * n_threads : (number + 1) * n_threads]
        argv = [sys.executable, "-m", "pianofarm_worker.devices", ",".join(map(str, mine)), *argv]
    return WorkerProcess(f"cpu{number}", tuple(argv), _common_env() | env)


def _common_env() -> dict[str, str]:
    return {"TF_CPP_MIN_LOG_LEVEL": "2"}


def _celery(settings: Settings, name: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "celery",
        "--app=pianofarm_worker.app",
        "--quiet",
        "worker",
        "--pool=prefork",
        "--concurrency=1",
        f"--queues={','.join(CLASSES)}",
        f"--hostname={name}@%h",
        f"--loglevel={settings.log_level}",
        "--without-gossip",
        "--without-mingle",
    ]


def pin(allowed: str) -> None:
    """Pin this process, and whatever it becomes, to cores such as "0,1".

    Raises:
        BadSettings: there are no such cores.
    """
    try:
        os.sched_setaffinity(0, {int(core) for core in allowed.split(",")})
    except (ValueError, OSError, AttributeError) as error:
        raise BadSettings(f"cannot pin to cores {allowed!r}: {error} (usable: {cores()})") from None


if __name__ == "__main__":
    pin(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
