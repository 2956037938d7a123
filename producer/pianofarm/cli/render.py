"""`pianofarm render`: one file on this machine, no services."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pianofarm.cli import options as shared

#: Further off than this, the loudness that was asked for is said not to have been reached.
LOUDNESS_OFF_LU = 0.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(render)


def render(
    midi: Annotated[str, typer.Argument(metavar="MIDI", help="A MIDI file, or - for standard input.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The audio file to write: .wav, .flac or .ogg.")],
    model: shared.Model = None,
    piano: shared.Piano = None,
    dry: Annotated[
        Path | None,
        typer.Option(
            "--dry",
            metavar="PATH",
            help="Also write the sound before the room here; a level asked for is brought about for each.",
        ),
    ] = None,
    duration: shared.Duration = None,
    warm_up_s: shared.WarmUp = None,
    tail: shared.Tail = True,
    sample_rate: shared.SampleRate = None,
    channels: shared.Channels = None,
    format: shared.Format = None,  # noqa: A002 - the option's name
    sample_format: shared.SampleFormat = None,
    normalize_dbfs: shared.NormalizeDbfs = None,
    normalize_lufs: shared.NormalizeLufs = None,
    room: shared.Room = None,
    backend: Annotated[str | None, typer.Option("--backend", help="tensorflow or jax; default: the setting.")] = None,
    json: shared.Json = False,
) -> None:
    """Render a MIDI file to audio in this process: no farm, no services."""
    # Before NumPy: its products here are too small to share, and threads that wait for their part take a core each.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pianofarm.cli.interrupts import Interrupts
    from pianofarm.cli.terminal import Meter, duration_text, native_messages_in, print_json, say
    from pianofarm.solo import Request, render_file
    from pianofarm_common.errors import BadOption
    from pianofarm_common.settings import Settings

    if dry is not None and dry.resolve() == output.resolve():
        raise BadOption(f"--dry {dry}: that is the output as well; give it another name")
    if dry is not None and shared.format_of(dry, format) not in (None, shared.format_of(output, format) or "wav"):
        raise BadOption(f"--dry {dry}: it is written in the format of the output; give both the same ending")
    given = shared.render_options(
        piano=piano,
        duration_s=duration,
        warm_up_s=warm_up_s,
        tail=tail,
        sample_rate_hz=sample_rate,
        channels=channels,
        format=shared.format_of(output, format),
        sample_format=sample_format,
        normalize_dbfs=normalize_dbfs,
        normalize_lufs=normalize_lufs,
        room=room,
        dry=dry is not None,
    )
    settings = Settings.load()
    request = Request(midi=midi, output=output, dry=dry, model=model, options=given, backend=backend)
    native_log = settings.state_dir / "logs" / "render.log"
    with native_messages_in(native_log), Meter("rendering", 1.0, quiet=json) as meter, Interrupts() as interrupts:

        def progress(done: float) -> None:
            interrupts.check()
            meter.update(done)

        report = render_file(request, settings, progress)
    if json:
        print_json(report.as_json())
        return
    print(report.output)
    say(
        f"{duration_text(report.audio_s)} of audio in {report.render_s:.1f} s ({report.real_time_factor:.1f} times real time, "
        f"model loaded in {report.import_s + report.load_s:.1f} s), {report.notes} notes, {report.dropped_notes} dropped"
    )
    if normalize_lufs is not None:
        if report.loudness_lufs is None:
            say("too short or too soft to have a loudness: its level was left as it was")
        elif abs(report.loudness_lufs - normalize_lufs) > LOUDNESS_OFF_LU:
            say(f"loudness {report.loudness_lufs:.1f} LUFS, not {normalize_lufs:g}: louder, its peaks would clip")
    if report.percussion_notes:
        say(f"{report.percussion_notes} notes on the percussion channel were left out")
