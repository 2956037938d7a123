"""The command-line options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from pianofarm_common.errors import BadOption
from pianofarm_common.renders import RenderOptions

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model: a name, a folder or a digest. 'pianofarm models list' shows them."),
]
Piano = Annotated[int | None, typer.Option("--piano", help="Which of the model's pianos, from 0.")]
Duration = Annotated[float | None, typer.Option("--duration", metavar="SECONDS", help="Render only the beginning.")]
WarmUp = Annotated[
    float | None, typer.Option("--warm-up-s", metavar="SECONDS", help="Silent lead-in, not in the file (default 0.5).")
]
Tail = Annotated[bool, typer.Option("--tail/--no-tail", help="Let the last notes and the room ring out.")]
SampleRate = Annotated[
    int | None, typer.Option("--sample-rate", metavar="HZ", help="Sample rate of the file; default: the model's.")
]
Channels = Annotated[int | None, typer.Option("--channels", help="1 or 2; default: as the model has it.")]
Format = Annotated[str | None, typer.Option("--format", help="wav, flac or ogg.")]
SampleFormat = Annotated[str | None, typer.Option("--sample-format", help="pcm16, pcm24 or float32 (default pcm16).")]
NormalizeDbfs = Annotated[
    float | None,
    typer.Option("--normalize-dbfs", metavar="DB", help="Bring the peak to this level, e.g. -1 (ogg: before coding)."),
]
NormalizeLufs = Annotated[
    float | None,
    typer.Option(
        "--normalize-lufs",
        metavar="LUFS",
        help="Bring the loudness here, e.g. -18, or as near as peaks below -1 dBFS allow (ogg: before coding).",
    ),
]
Room = Annotated[
    float | None,
    typer.Option(
        "--room", metavar="PART", help="How much of the room: 0 is dry, 1 (default) as the model has it, up to 2."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for scripts.")]


def render_options(*, tail: bool, dry: bool, **given: object) -> dict[str, Any]:
    """The render options that were given, by the names of `RenderOptions`; the rest stays at its default."""
    options = {name: value for name, value in given.items() if value is not None}
    if not tail:
        options["tail"] = False
    if dry:
        options["dry"] = True
    return options


def format_of(output: Path, given: str | None) -> str | None:
    """The file format that was asked for: by `--format`, else by the ending of the output's name; None: the default.

    Raises:
        BadOption: the ending is that of a format that we cannot write, or of another one than was asked for.
    """
    ending = output.suffix.lower().removeprefix(".")
    known = get_args(RenderOptions.model_fields["format"].annotation)
    if given in known and ending in known and given != ending:
        raise BadOption(
            f"{output}: --format {given} in a file named .{ending}; name it .{given}, or leave --format out"
        )
    if given is not None or ending == "":
        return given
    if ending not in known:
        raise BadOption(f"{output}: cannot write {ending!r} files; name it .{', .'.join(known)}, or say --format")
    return ending
