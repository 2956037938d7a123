"""`pianofarm models`: what models there are, importing, publishing and checking them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm_common.models import ModelInfo

app = typer.Typer(help="Models: list, describe, import and verify them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A name, a folder or a digest of at least 8 digits.")]


@app.command("list")
def list_models(json: shared.Json = False) -> None:
    """List the models at hand."""
    from rich.table import Table

    from pianofarm.cli.terminal import print_json, table_console
    from pianofarm_common.models import catalogue
    from pianofarm_common.registry import Registry
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    models = catalogue(settings.state_dir)
    registry = Registry.from_settings(settings)
    at_hand = {model.digest for model in models}
    elsewhere = [] if registry is None else [e for e in registry.entries() if e.digest not in at_hand]
    if json:
        for model in models:
            print_json(_facts(model))
        for entry in elsewhere:
            print_json({**asdict(entry), "path": None})
        return
    table = Table("name", "architecture", "rate", "channels", "pianos", "polyphony", "licence", "digest")
    for model in models:
        table.add_row(
            model.name,
            model.architecture,
            f"{model.sample_rate_hz} Hz",
            str(model.channels),
            str(model.n_pianos),
            "any" if model.max_polyphony is None else str(model.max_polyphony),
            model.licence,
            model.digest[:12],
        )
    for entry in elsewhere:
        table.add_row(entry.name, entry.architecture, "", "", "", "", entry.licence, f"{entry.digest[:12]} (registry)")
    table_console().print(table)


@app.command()
def info(model: Name = "default", json: shared.Json = False) -> None:
    """Describe one model and print its card."""
    from pianofarm.cli.terminal import print_json
    from pianofarm.models import resolve_model
    from pianofarm_common.models import CARD_FILE
    from pianofarm_common.registry import Registry
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    found = resolve_model(model, settings.state_dir, Registry.from_settings(settings))
    if json:
        print_json(_facts(found))
        return
    for name, value in _facts(found).items():
        print(f"{name:<16} {value}")
    card = found.path / CARD_FILE
    if card.is_file():
        print(f"\n{card.read_text()}")


@app.command("import")
def import_checkpoint(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A model folder, or that of a published TensorFlow checkpoint (checkpoint, *.index, *.data-*)."
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the model; default: the folder's name.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Import a trained model, or a published checkpoint, whose architecture is recognised from its variables."""
    from pianofarm.cli.terminal import native_messages_in, print_json, say
    from pianofarm.models import adopt_model, import_model
    from pianofarm_common.errors import BadModel, BadOption
    from pianofarm_common.models import CONFIG_FILE, read_model
    from pianofarm_common.settings import Settings

    if not folder.is_dir():
        raise BadModel(f"{folder} is no folder: give the folder that holds the checkpoint")
    is_model = (folder / CONFIG_FILE).is_file()
    if is_model and name is not None:
        raise BadOption(f"--name {name}: a model keeps the name it was trained under, {read_model(folder).name!r}")
    called = read_model(folder).name if is_model else name or folder.resolve().name
    if (
        called == "default"
        or called.startswith(".")
        or not all(letter.isalnum() or letter in "._-" for letter in called)
    ):
        raise BadOption(f"--name {called!r}: use letters, digits, '.', '_' and '-', and not 'default'")
    state_dir = Settings.load().state_dir
    destination = state_dir / "models" / called
    if destination.exists():
        raise BadOption(f"a model {called!r} is there already ({destination}): choose another --name or remove it")
    with native_messages_in(state_dir / "logs" / "models.log"):
        model = adopt_model(folder, destination) if is_model else import_model(folder, destination, called)
    if json:
        print_json(_facts(model))
    else:
        say(
            f"imported as {model.name!r} ({model.architecture}): 'pianofarm render in.mid out.wav --model {model.name}'"
        )
        print(model.path)


@app.command()
def verify(model: Name = "default", json: shared.Json = False) -> None:
    """Check a model's files, load it and render a short chord with it."""
    from pianofarm.cli.terminal import native_messages_in, print_json
    from pianofarm.models import require_worker, resolve_model
    from pianofarm_common.models import check_unchanged
    from pianofarm_common.registry import Registry
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    found = resolve_model(model, settings.state_dir, Registry.from_settings(settings))
    compared = check_unchanged(found)
    require_worker()
    from pianofarm.trial import render_chord

    with native_messages_in(settings.state_dir / "logs" / "models.log"):
        trial = render_chord(found, settings)
    if json:
        print_json({**_facts(found), "compared": compared, **asdict(trial)})
    else:
        known = "" if compared else " (no earlier one is known to compare it with)"
        print(
            f"{found.name}: digest {found.digest[:12]}{known}, loaded in {trial.load_s:.1f} s, "
            f"a chord of {trial.audio_s:.1f} s peaks at {trial.peak_dbfs:.1f} dBFS: it works"
        )


@app.command()
def publish(model: Name, json: shared.Json = False) -> None:
    """Put a model in the registry, where other machines and workers fetch it."""
    from pianofarm.cli.terminal import print_json, say
    from pianofarm_common.errors import BadSettings
    from pianofarm_common.models import find_model
    from pianofarm_common.registry import Registry
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    registry = Registry.from_settings(settings)
    if registry is None:
        raise BadSettings("there is no registry: set PIANOFARM_REGISTRY to a folder or to s3://bucket/prefix")
    found = find_model(model, settings.state_dir)
    sent = registry.publish(found)
    if json:
        print_json({**_facts(found), "registry": registry.where, "sent": sent})
        return
    print(found.digest)
    say(f"{found.name!r} {'is now' if sent else 'was already'} in {registry.where}")


def _facts(model: ModelInfo) -> dict[str, object]:
    return {**asdict(model), "path": str(model.path)}
