"""`pianofarm up` and `pianofarm down`: the local farm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm.local.farm import LocalFarm
    from pianofarm_common.settings import Settings


#: Programs of the local farm that are no workers.
OTHER_PROGRAMS = frozenset({"redis", "storage", "sweeper", "flower"})


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)


def up(
    cpu: Annotated[
        int | None, typer.Option("--cpu", metavar="N", min=0, help="N workers on CPU cores; 0: one a core.")
    ] = None,
    flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Start Flower, the view of the queue.")] = True,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in the foreground; Ctrl-C stops the farm.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Start a farm on this machine: Redis, S3 storage, workers and Flower, on loopback only.

    With PIANOFARM_REDIS_URL or PIANOFARM_S3_ENDPOINT set, your own service is used and none is started in its place.
    """
    from pianofarm.cli.terminal import say
    from pianofarm.local.farm import LocalFarm
    from pianofarm.local.workers import worker_programs
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    farm = LocalFarm(settings.state_dir)
    workers = worker_programs(settings, cpu)
    if foreground:

        def started() -> None:
            say(f"the farm runs until Ctrl-C; logs in {farm.folder.logs}")
            show(farm, as_json=json)

        if not farm.run(settings, workers, flower=flower, started=started):
            say("the farm is up already")
            show(farm, as_json=json)
        return
    fresh = farm.up(settings, workers, flower=flower)
    if not fresh:
        say("the farm is up already")
    try:
        wait_for_services(farm)
        wait_for_workers(farm, Settings.load())
        if any(program.name == "flower" for program in farm.programs()):
            farm.wait_for("Flower", farm.flower_answers, program="flower", timeout_s=60.0)
    except BaseException:
        if fresh:
            farm.down()
        raise
    show(farm, as_json=json)


def down(json: shared.Json = False) -> None:
    """Stop the farm of this machine. What was submitted is kept and goes on at the next start."""
    from pianofarm.cli.terminal import print_json, say
    from pianofarm.local.farm import LocalFarm
    from pianofarm_common.settings import Settings

    stopped = LocalFarm(Settings.load().state_dir).down()
    if json:
        print_json({"stopped": stopped})
    else:
        say("the farm is stopped" if stopped else "the farm is not up")


def wait_for_services(farm: LocalFarm) -> None:
    """Wait until Redis and the store answer, and make the bucket.

    Raises:
        ServiceUnavailable: one of them does not come up (names its log), or is the user's and does not answer.
        BadSettings: one of them refuses our credentials.
    """
    from pianofarm_common.ledger import Ledger
    from pianofarm_common.settings import Settings
    from pianofarm_common.storage import S3BlobStore

    settings = Settings.load(farm.folder.root)
    ledger, store = Ledger.from_settings(settings), S3BlobStore.from_settings(settings)
    ours = {program.name for program in farm.programs()}
    # The user's own services are not being started: they answer now or not.
    if "redis" in ours:
        farm.wait_for("Redis", _answers(ledger.ping), program="redis", timeout_s=30.0)
    else:
        ledger.ping()
    if "storage" in ours:
        farm.wait_for("the storage", _answers(store.ensure_bucket), program="storage", timeout_s=60.0)
    else:
        store.ensure_bucket()
    ledger.close()
    store.close()


def wait_for_workers(farm: LocalFarm, settings: Settings, *, first: bool = False) -> None:
    """Wait until every worker (or the first one) is there.

    Raises:
        ServiceUnavailable: one of them does not come up; names its log.
    """
    from pianofarm_common.ledger import Ledger

    ledger = Ledger.from_settings(settings)
    names = [program.name for program in farm.programs() if program.name not in OTHER_PROGRAMS]

    def are_there() -> bool:
        alive = {worker.name.split("@")[0] for worker in ledger.workers()}
        return any(name in alive for name in names) if first else all(name in alive for name in names)

    for name in names[:1]:
        farm.wait_for(f"worker {name}" if first else "a worker", are_there, program=name, timeout_s=120.0)
    ledger.close()


def _answers(ask: Callable[[], object]) -> Callable[[], bool]:
    from pianofarm_common.errors import ServiceUnavailable

    def asked() -> bool:
        try:
            ask()
        except ServiceUnavailable:
            return False
        return True

    return asked


def show(farm: LocalFarm, *, as_json: bool) -> None:
    """Print where everything is; credentials are in files that only the user can read."""
    from pianofarm.cli.terminal import print_json
    from pianofarm_common.ledger.connection import address
    from pianofarm_common.settings import Settings

    settings = Settings.load(farm.folder.root)
    facts, programs = farm.facts, farm.programs()
    redis = address(settings.redis_url.get_secret_value())
    workers = [program.name for program in programs if program.name not in OTHER_PROGRAMS]
    flower = facts.flower_url if facts and any(program.name == "flower" for program in programs) else ""
    if as_json:
        print_json(
            {
                "redis": redis,
                "s3_endpoint": settings.s3_endpoint,
                "flower": flower,
                "workers": workers,
                "state_dir": str(farm.folder.root),
                "logs": str(farm.folder.logs),
            }
        )
        return
    print(f"Redis     {redis}")
    print(f"storage   {settings.s3_endpoint or 'Amazon S3'}, bucket {settings.s3_bucket}")
    print(f"workers   {', '.join(workers)}")
    if flower and facts:
        print(f"Flower    {flower} (user {facts.flower_user}, password {facts.flower_password})")
    print(
        f"state     {farm.folder.root} (addresses and credentials: {farm.folder.farm_env.name}; logs: {farm.folder.logs.name}/)"
    )
    print("Submit with 'pianofarm submit FILE.mid --out .', stop with 'pianofarm down'.")
