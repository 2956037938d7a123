"""`pianofarm train`: new models from a user's own recordings. Options and findings; the work is in `pianofarm_training`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared
from pianofarm_common.errors import BadOption

if TYPE_CHECKING:
    from pianofarm_common.models import ModelInfo
    from pianofarm_training.problems import BadData

app = typer.Typer(help="Train a model on your own recordings (docs/training.md).", no_args_is_help=True)

#: Rate of the house models.
HOUSE_RATE_HZ = 32_000

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The model folder to make.")]
Name = Annotated[str | None, typer.Option("--name", help="What to call the model; default: the folder's name.")]
Licence = Annotated[
    str, typer.Option("--licence", help="Licence of the model, as an SPDX name: CC-BY-4.0, for instance.")
]
Credit = Annotated[str, typer.Option("--credit", help="Whom to name for the recordings, in the card.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same data and seed give the same model on one machine.")]
Check = Annotated[bool, typer.Option("--check", help="Only look at the data; train nothing.")]


@app.command()
def samples(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|FILE.sfz", help="Recorded notes named like A0v1.wav, or an SFZ mapping.")
    ],
    out: Out,
    size: Annotated[str, typer.Option("--size", help="small, base or large.")] = "base",
    instrument: Annotated[
        str | None,
        typer.Option(
            "--instrument", help="Its name among several in one model; OUT may be a house model, which gets it."
        ),
    ] = None,
    name: Name = None,
    licence: Licence = "",
    credit: Credit = "",
    seed: Seed = 1,
    effort: Annotated[
        float, typer.Option("--effort", help="Times the usual number of steps; 0.01 to see whether it works.")
    ] = 1.0,
    processes: Annotated[int, typer.Option("--processes", min=0, help="Keys analysed at a time; 0: one a core.")] = 0,
    check: Check = False,
    json: shared.Json = False,
) -> None:
    """Learn a house piano from recorded notes: every key at every velocity layer in a file of its own."""
    from pianofarm.cli.terminal import Meter, say
    from pianofarm_common.settings import Settings

    require_training("jax", "scipy", "soundfile", "soxr", "safetensors")
    from pianofarm_training.naming import Naming
    from pianofarm_training.own_training import checked_samples, train_samples
    from pianofarm_training.problems import BadData
    from pianofarm_training.sizes import size_named

    chosen, called = size_named(size, effort), _name(name, out)
    if instrument is None:
        _free(out)
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", instrument):
        raise BadOption(f"--instrument {instrument!r}: use letters, digits, spaces, '.', '_' and '-', at most 100")
    elif not (out / "config.json").is_file():
        _free(out)
    settings = Settings.load()
    try:
        with Meter("listening", 1.0, quiet=json) as meter:
            found = checked_samples(source, credit, lambda done, of: meter.update(done / of))
    except BadData as error:
        show_problems(error, as_json=json)
        raise
    say(
        f"{len(found.files)} recordings: {len(found.pitches)} keys at {len(found.velocities)} velocities, nothing wrong"
    )
    if check:
        return
    model = train_samples(
        found,
        out,
        Naming(called, licence, credit),
        size=chosen,
        size_name=size,
        seed=seed,
        work_root=settings.state_dir / "training",
        n_processes=processes or os.cpu_count() or 1,
        instrument=instrument,
    )
    _made(model, as_json=json)


@app.command()
def pairs(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Recordings and MIDI: a MAESTRO table, or files of the same name.")
    ],
    out: Out,
    architecture: Annotated[str, typer.Option("--architecture", help="house, dafx22 or maestro-v2.")],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of Adam.")] = 100_000,
    batch: Annotated[int, typer.Option("--batch", min=1, max=1024, help="Excerpts a step.")] = 6,
    excerpt_s: Annotated[float, typer.Option("--excerpt-s", metavar="SECONDS", help="Length of an excerpt.")] = 3.0,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=1, metavar="STEPS", help="How often to write a checkpoint.")
    ] = 500,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from this model; default: random weights, for house the default model.",
        ),
    ] = None,
    name: Name = None,
    licence: Licence = "",
    credit: Credit = "",
    seed: Seed = 1,
    check: Check = False,
    json: shared.Json = False,
) -> None:
    """Learn a model from recordings of whole pieces and the MIDI that was played."""
    from pianofarm.cli.terminal import Meter, native_messages_in, say
    from pianofarm_common.midi import MidiLimits
    from pianofarm_common.models import find_model
    from pianofarm_common.settings import Settings

    require_training("tensorflow", "keras", "scipy", "soundfile", "soxr", "safetensors")
    from pianofarm_training.naming import Naming, Recipe
    from pianofarm_training.pair_data import checked_pairs
    from pianofarm_training.problems import BadData
    from pianofarm_training.published.pair_training import ARCHITECTURES, train_pairs

    if architecture != "house" and architecture not in ARCHITECTURES:
        raise BadOption(f"--architecture {architecture}: must be house, {' or '.join(ARCHITECTURES)}")
    if architecture == "house":
        require_training("jax")
    if not 0.1 <= excerpt_s <= 60:
        raise BadOption(f"--excerpt-s {excerpt_s:g}: must be 0.1 to 60 seconds")
    config, called = ARCHITECTURES.get(architecture), _name(name, out)
    _free(out)
    settings = Settings.load()
    limits = MidiLimits.from_settings(settings)
    started_from = None if start is None else find_model(start, settings.state_dir)
    if started_from is not None and started_from.architecture != architecture:
        raise BadOption(f"--from {start}: it is a {started_from.architecture} model, --architecture is {architecture}")
    try:
        with Meter("listening", 1.0, quiet=json) as meter:
            found = checked_pairs(
                folder,
                limits,
                lowest_rate_hz=config.sample_rate_hz if config else HOUSE_RATE_HZ,
                shortest_s=excerpt_s,
                first_channel=config is not None,
                progress=lambda done, of: meter.update(done / of),
            )
    except BadData as error:
        show_problems(error, as_json=json)
        raise
    say(f"{len(found)} recordings, {sum(pair.held_out for pair in found)} of them held out, nothing wrong")
    if check:
        return
    with (
        native_messages_in(settings.state_dir / "logs" / "train.log"),
        Meter("training", steps, counts=True, quiet=json) as meter,
    ):
        recipe = Recipe(steps, batch, excerpt_s, checkpoint_every, seed, started_from)
        naming, work_root = Naming(called, licence, credit), settings.state_dir / "training"

        def report(step: int, loss: float) -> None:
            meter.update(step, f"loss {loss:.3f}")

        if config is not None:
            model = train_pairs(found, out, naming, config, recipe, limits, work_root, report)
        else:
            from pianofarm_training.house_pair_training import train_house_pairs

            default = started_from or find_model("default", settings.state_dir)
            model = train_house_pairs(found, out, naming, default, recipe, limits, work_root, report)
    _made(model, as_json=json)


def require_training(*needed: str) -> None:
    """Make sure that this environment can train.

    Raises:
        BadSettings: it cannot; the message says what to install.
    """
    from importlib.util import find_spec

    from pianofarm_common.errors import BadSettings

    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise BadSettings(f"{', '.join(missing)} not installed: pip install 'pianofarm[train]'")


def show_problems(error: BadData, *, as_json: bool) -> None:
    """Everything that is wrong with the data, as a table or as JSON lines, on standard output."""
    from rich.table import Table

    from pianofarm.cli.terminal import print_json, table_console

    if as_json:
        for p in error.problems:
            print_json({"file": str(p.path), "problem": p.kind, "found": p.found, "cure": p.cure})
        return
    table = Table("file", "problem", "found", "what to do")
    for p in error.problems:
        table.add_row(str(p.path), p.kind, p.found, p.cure)
    table_console().print(table)


def _name(name: str | None, out: Path) -> str:
    called = out.resolve().name if name is None else name
    if called == "default" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", called):
        raise BadOption(f"--name {called!r}: use letters, digits, '.', '_' and '-', at most 100, and not 'default'")
    return called


def _free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadOption(f"{out} is there already: give another folder, or remove it")


def _made(model: ModelInfo, *, as_json: bool) -> None:
    """Note the digest, by which `models verify` sees later changes, and say what was made."""
    from pianofarm.cli.terminal import print_json, say
    from pianofarm_common.models import note_digest

    note_digest(model)
    if as_json:
        print_json({"name": model.name, "digest": model.digest, "path": str(model.path)})
        return
    print(model.path)
    say(f"trained {model.name!r}, digest {model.digest[:12]}: 'pianofarm render in.mid out.wav --model {model.path}'")
