"""`pianofarm doctor`: looks at every part, one after the other, and says what to do about those that do not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared
from pianofarm_common.errors import Permanent, PianofarmError, Transient

if TYPE_CHECKING:
    from pianofarm_common.settings import Settings


@dataclass(frozen=True)
class Finding:
    """What was found out about one part."""

    part: str
    verdict: str  #: "ok", "note" (works without it) or "bad"
    text: str
    code: int = 0  #: exit code that it asks for


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    render: Annotated[
        bool, typer.Option("--render/--no-render", help="Load the model and render a chord (seconds).")
    ] = True,
    json: shared.Json = False,
) -> None:
    """Check Redis, storage, workers, GPU, array libraries and model, and say what to do. Exit code 0 where all is well."""
    from pianofarm.cli.terminal import native_messages_in, print_json
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    code = 0
    with native_messages_in(settings.state_dir / "logs" / "doctor.log"):
        for finding in _findings(settings, render=render):
            code = max(code, finding.code)
            if json:
                print_json(asdict(finding))
            else:
                print(f"{finding.verdict:<5} {finding.part:<10} {finding.text}", flush=True)
    raise typer.Exit(code)


def _findings(settings: Settings, *, render: bool) -> Iterator[Finding]:
    yield _asked("settings", lambda: _settings(settings))
    yield _asked("Redis", lambda: _redis(settings))
    yield _asked("storage", lambda: _storage(settings))
    yield _asked("workers", lambda: _workers(settings))
    if find_spec("keras") is None or find_spec("soundfile") is None:
        yield Finding(
            "synthesis", "note", "not installed here: submit to a farm, or pip install 'pianofarm[worker]' to render"
        )
        return
    yield _gpus()
    yield _library("tensorflow", "pip install 'pianofarm[worker]'")
    yield _library("jax", "pip install 'pianofarm[jax]' for the other backend")
    yield _asked("model", lambda: _model(settings, render=render))


def _asked(part: str, look: Callable[[], str | Finding]) -> Finding:
    try:
        found = look()
    except Transient as error:
        return Finding(part, "bad", str(error), 3)
    except PianofarmError as error:
        return Finding(part, "bad", str(error), 2 if isinstance(error, Permanent) else 3)
    return found if isinstance(found, Finding) else Finding(part, "ok", found)


def _settings(settings: Settings) -> str:
    from pianofarm.local.farm import LocalFarm
    from pianofarm.local.plan import StateFolder

    StateFolder(settings.state_dir.absolute()).make()
    up = "the local farm is up" if LocalFarm(settings.state_dir).is_up else "no local farm is up"
    return f"pianofarm {version('pianofarm')}, state in {settings.state_dir.absolute()}, {up}"


def _redis(settings: Settings) -> str:
    from pianofarm_common.ledger import Ledger

    ledger = Ledger.from_settings(settings)
    try:
        return ledger.ping()
    finally:
        ledger.close()


def _storage(settings: Settings) -> str:
    import secrets

    from pianofarm_common.storage import S3BlobStore

    store = S3BlobStore.from_settings(settings)
    store.ensure_bucket()
    key, data = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(64)
    store.put(key, data)
    same = store.get(key) == data
    store.delete(key)
    if not same:
        raise Transient(f"{store.endpoint} gave back other bytes than were stored: check what stands between")
    return f"{store.endpoint}, bucket {store.bucket}: stored, read and removed an object"


def _workers(settings: Settings) -> Finding:
    from pianofarm_common.ledger import Ledger

    ledger = Ledger.from_settings(settings)
    try:
        workers = ledger.workers()
    finally:
        ledger.close()
    if not workers:
        return Finding(
            "workers", "bad", "none is alive: 'pianofarm up' starts a local farm, 'pianofarm worker' workers only", 3
        )
    return Finding(
        "workers", "ok", ", ".join(f"{worker.name} ({worker.device}, {worker.backend})" for worker in workers)
    )


def _gpus() -> Finding:
    from pianofarm_worker.devices import cores, gpus

    found = gpus()
    if not found:
        return Finding("GPU", "note", f"none: rendering on {len(cores())} CPU cores")
    return Finding("GPU", "ok", f"{len(found)}: {', '.join(found)}")


def _library(name: str, cure: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "note", f"not installed: {cure}")


def _model(settings: Settings, *, render: bool) -> str:
    from pianofarm_common.models import find_model

    model = find_model(settings.model, settings.state_dir)
    text = f"{model.name} ({model.architecture}, digest {model.digest[:12]})"
    if not render:
        return f"{text}: its files are whole"
    from pianofarm.trial import render_chord

    trial = render_chord(model, settings)
    return f"{text}: loaded in {trial.load_s:.1f} s, rendered a chord in {trial.render_s:.1f} s"
