"""`pianofarm models`: what models there are, importing published checkpoints, checking files."""

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
    from pianofarm_common.settings import Settings

    models = catalogue(Settings.load().state_dir)
    if json:
        for model in models:
            print_json(_facts(model))
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
    table_console().print(table)


@app.command()
def info(model: Name = "default", json: shared.Json = False) -> None:
    """Describe one model and print its card."""
    from pianofarm.cli.terminal import print_json
    from pianofarm_common.models import CARD_FILE, find_model
    from pianofarm_common.settings import Settings

    found = find_model(model, Settings.load().state_dir)
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
        Path, typer.Argument(help="Folder of a published TensorFlow checkpoint (checkpoint, *.index, *.data-*).")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the model; default: the folder's name.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Import a published checkpoint; its architecture is recognised from its variables."""
    from pianofarm.cli.terminal import native_messages_in, print_json, say
    from pianofarm.models import import_model
    from pianofarm_common.errors import BadModel, BadOption
    from pianofarm_common.settings import Settings

    if not folder.is_dir():
        raise BadModel(f"{folder} is no folder: give the folder that holds the checkpoint")
    called = name or folder.resolve().name
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
        model = import_model(folder, destination, called)
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
    from pianofarm.models import require_worker
    from pianofarm_common.models import find_model
    from pianofarm_common.settings import Settings

    settings = Settings.load()
    found = find_model(model, settings.state_dir)
    require_worker()
    from pianofarm.trial import render_chord

    with native_messages_in(settings.state_dir / "logs" / "models.log"):
        trial = render_chord(found, settings)
    if json:
        print_json({**_facts(found), **asdict(trial)})
    else:
        print(
            f"{found.name}: digest {found.digest[:12]}, loaded in {trial.load_s:.1f} s, "
            f"a chord of {trial.audio_s:.1f} s peaks at {trial.peak_dbfs:.1f} dBFS: it works"
        )


def _facts(model: ModelInfo) -> dict[str, object]:
    return {**asdict(model), "path": str(model.path)}
