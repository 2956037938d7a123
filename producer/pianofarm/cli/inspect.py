"""`pianofarm inspect`: a rendered file beside its MIDI, as one page to look at and to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pianofarm.cli import options as shared


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(inspect)


def inspect(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="A rendered file: .wav, .flac or .ogg.")],
    midi: Annotated[Path, typer.Option("--midi", metavar="MIDI", help="The MIDI file it was rendered from.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PAGE", help="Default: beside the audio, ending in .html.")
    ] = None,
    model: shared.Model = None,
    at_most_s: Annotated[
        float, typer.Option("--length", metavar="SECONDS", min=1, max=7200, help="Show that much, from the beginning.")
    ] = 600.0,
    json: shared.Json = False,
) -> None:
    """Make one HTML page of a rendered file: waveform, spectrogram, piano roll with dropped notes, levels, player."""
    from dataclasses import asdict

    from pianofarm.cli.terminal import print_json, say
    from pianofarm.destination import arriving, check_writable
    from pianofarm.models import require_worker, resolve_model
    from pianofarm.submission import read_source
    from pianofarm_common.errors import BadOption
    from pianofarm_common.midi import MidiLimits
    from pianofarm_common.registry import Registry
    from pianofarm_common.settings import Settings

    require_worker("soundfile", "scipy")
    from pianofarm_worker.inspection.report import inspect_file

    target = out or audio.with_suffix(".html")
    if target.resolve() in (audio.resolve(), midi.resolve()):
        raise BadOption(f"--out {target}: that is an input; give the page another name")
    check_writable(target)
    settings = Settings.load()
    _, performance = read_source(midi, MidiLimits.from_settings(settings))
    info = resolve_model(model or settings.model, settings.state_dir, Registry.from_settings(settings))
    found = inspect_file(audio, performance, info, title=f"{audio.name} from {midi.name}", at_most_s=at_most_s)
    with arriving(target) as temporary:
        temporary.write_text(found.page, encoding="utf-8")
    if json:
        print_json({"page": str(target), **{name: value for name, value in asdict(found).items() if name != "page"}})
        return
    print(target)
    correlation = (
        "" if found.rank_correlation is None else f", rank correlation with velocity {found.rank_correlation:.2f}"
    )
    say(f"{found.notes} notes, {found.dropped} dropped, the level of {found.measured} measured{correlation}")
