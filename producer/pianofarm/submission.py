"""A submission: a MIDI source with what is wanted of it, and its way to validated MIDI bytes. Reads files, talks to no service."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

from pianofarm_common.errors import BadMidi, BadOption, PianofarmError
from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_common.renders import PriorityClass, RenderOptions

if TYPE_CHECKING:
    import pretty_midi

#: What can be submitted: a file by its path, the bytes of a MIDI file, or a PrettyMIDI object.
MidiSource: TypeAlias = "str | os.PathLike[str] | bytes | pretty_midi.PrettyMIDI"

#: Options by name, or ready made.
Options: TypeAlias = RenderOptions | Mapping[str, object] | None


@dataclass(frozen=True)
class Submission:
    """One thing to submit. A field left at None is taken from the arguments of `Farm.submit_many`."""

    source: MidiSource
    name: str = ""  #: for people; empty: the file's name
    model: str | None = None
    options: Options = None
    priority: PriorityClass | None = None
    owner: str | None = None
    origin: str = ""  #: where it was asked for, such as a line of a table; named if it is rejected


@dataclass(frozen=True)
class Rejected:
    """A submission that never became a job, and why."""

    name: str
    error: PianofarmError

    @classmethod
    def of(cls, item: Submission, error: PianofarmError) -> Self:
        """The error as its asker must see it: with the place where he asked."""
        where = f"{item.origin}: " if item.origin else ""
        return cls(item.name or name_of(item.source), type(error)(f"{where}{error}"))


def name_of(source: MidiSource) -> str:
    """What to call a source that was given no name: its file name without folder, or what it is."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return "bytes" if isinstance(source, bytes) else "PrettyMIDI"


def midi_bytes(source: MidiSource, max_bytes: int) -> bytes:
    """The MIDI file behind a source; no more than `max_bytes` + 1 bytes are read from a file.

    Raises:
        BadMidi: it cannot be read, or a PrettyMIDI object cannot be written.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        try:
            with Path(source).open("rb") as file:
                return file.read(max_bytes + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise BadMidi(f"cannot read {os.fspath(source)}: {why}") from None
    buffer = io.BytesIO()
    try:
        source.write(buffer)
    except Exception as error:  # mido and pretty_midi raise what they like on impossible values
        raise BadMidi(
            f"this PrettyMIDI object cannot be written as a MIDI file: {type(error).__name__}: {error}"
        ) from None
    return buffer.getvalue()


def read_source(source: MidiSource, limits: MidiLimits) -> tuple[bytes, Performance]:
    """The bytes of a source and what they mean.

    Raises:
        BadMidi: it cannot be read or holds nothing to render; names the file.
    """
    data = midi_bytes(source, limits.max_bytes)
    return data, perform(source, data, limits)


def perform(source: MidiSource, data: bytes, limits: MidiLimits) -> Performance:
    """What the bytes of a source mean; raises as `read_source`."""
    try:
        return read_performance(data, limits)
    except BadMidi as error:
        if not isinstance(source, str | os.PathLike):
            raise
        raise type(error)(f"{os.fspath(source)}: {error}") from None


def parse_options(options: Options) -> RenderOptions:
    """Options as a RenderOptions.

    Raises:
        BadOption: one is unknown or out of range.
    """
    if isinstance(options, RenderOptions):
        return options
    return RenderOptions.parse(**(options or {}))


def parse_priority(priority: PriorityClass | str) -> PriorityClass:
    """A priority class by its name.

    Raises:
        BadOption: no such class.
    """
    try:
        return PriorityClass(priority)
    except ValueError:
        raise BadOption(f"priority={priority!r}: must be one of {', '.join(PriorityClass)}") from None
