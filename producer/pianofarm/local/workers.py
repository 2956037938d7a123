"""Worker and sweeper processes as programs of a supervisor. What a worker is, `pianofarm_worker.devices` knows."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pianofarm.local.plan import StateFolder, base_env
from pianofarm.local.supervisor import Program
from pianofarm.models import require_worker
from pianofarm_common.settings import Settings

#: A worker that is asked to stop hands its render back within `soft_shutdown_s`; then this much longer for the rest.
SHUTDOWN_MARGIN_S = 10.0


def worker_programs(
    settings: Settings, cpu: int | None, *, sweeper: bool = True, deferred: bool = False
) -> Callable[[StateFolder], tuple[Program, ...]]:
    """The workers of this host, each pinned to its device, and one sweeper.

    Args:
        settings: threads, log level, backend.
        cpu: number of CPU workers, 0 for one a core; None: one per GPU, else CPU workers.
        sweeper: add a sweeper; any number may run in a farm, one must.
        deferred: start the workers only when `LocalFarm.start_deferred` says so.

    Raises:
        BadSettings: TensorFlow (or JAX, if that is the backend) is not installed.
    """
    require_worker("keras", settings.backend, "soundfile")
    from pianofarm_worker.devices import worker_commands

    def programs(folder: StateFolder) -> tuple[Program, ...]:
        made = [
            Program(
                name=worker.name,
                argv=worker.argv,
                env={**base_env(folder), **worker.env},
                log=str(folder.logs / f"{worker.name}.log"),
                grace_s=settings.soft_shutdown_s + SHUTDOWN_MARGIN_S,
                deferred=deferred,
            )
            for worker in worker_commands(settings, cpu)
        ]
        if sweeper:
            made.append(
                Program(
                    name="sweeper",
                    argv=(sys.executable, "-m", "pianofarm_worker.sweeper"),
                    env=base_env(folder),
                    log=str(folder.logs / "sweeper.log"),
                )
            )
        return tuple(made)

    return programs
