"""`pianofarm play`: a MIDI file played while it is synthesized, on a sound device or into a pipe."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pianofarm.cli import options as shared

if TYPE_CHECKING:
    from pianofarm.sinks import Sink


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(play)


def play(
    midi: Annotated[str, typer.Argument(metavar="MIDI", help="A MIDI file.")],
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Write a WAV file to standard output, as fast as it is made.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="With --stdout: bare samples, 16 bits, little-endian, no header.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="Sound device: name, part of it or number.")
    ] = None,
    model: shared.Model = None,
    piano: shared.Piano = None,
    block_ms: Annotated[int, typer.Option("--block-ms", help="Length of a block: 4 to 40 ms in steps of 4.")] = 8,
    room: shared.Room = None,
    tail: shared.Tail = True,
    backend: Annotated[str | None, typer.Option("--backend", help="tensorflow or jax; default: the setting.")] = None,
) -> None:
    """Play a MIDI file while it is synthesized: on a sound device, or with --stdout into a pipe."""
    from pianofarm.cli.terminal import duration_text, native_messages_in, say
    from pianofarm.playing import Request
    from pianofarm.playing import play as perform
    from pianofarm.sinks import DeviceSink, PipeSink, import_sounddevice
    from pianofarm_common.errors import BadOption, DiskFull
    from pianofarm_common.settings import Settings

    if raw and not stdout:
        raise BadOption("--raw says how to write to standard output: add --stdout")
    if stdout and sys.stdout.isatty():
        raise BadOption(
            "--stdout writes sound to a terminal: pipe it into a player, 'pianofarm play FILE --stdout | aplay'"
        )
    if not stdout:
        import_sounddevice()

    def open_sink(sample_rate_hz: int, n_channels: int, block_samples: int, n_blocks: int) -> Sink:
        if stdout:
            return PipeSink(
                sys.stdout.buffer,
                sample_rate_hz=sample_rate_hz,
                n_channels=n_channels,
                n_samples=n_blocks * block_samples,
                header=not raw,
            )
        return DeviceSink(
            sample_rate_hz=sample_rate_hz, n_channels=n_channels, block_samples=block_samples, device=device
        )

    settings = Settings.load()
    request = Request(midi=midi, model=model, piano=piano, block_ms=block_ms, backend=backend, tail=tail, room=room)
    with native_messages_in(settings.state_dir / "logs" / "play.log"):
        try:
            report = perform(request, settings, open_sink)
        except (BrokenPipeError, DiskFull) as error:
            # Python would complain once more when it closes standard output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, DiskFull):
                raise
            return  # the player was closed; typer would make it an error
    say(
        f"{duration_text(report.played_s)} played, {report.underruns} underruns; a block of {report.block_ms} ms took "
        f"{report.compute_ms:.2f} ms (median) to {report.longest_compute_ms:.1f} ms; {report.notes} notes, "
        f"{report.dropped_notes} dropped"
    )
