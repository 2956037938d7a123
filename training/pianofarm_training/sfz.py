"""Reads SFZ mappings: which file plays which key at which velocities. What else an SFZ player would do to the sound is not read.

A reader of our own, for want of a library: see docs/decisions/0040-our-own-reader-of-sfz-mappings.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pianofarm_common.errors import NotFound, Permanent

#: Files that include files that include files ... end here.
DEEPEST_INCLUDE = 8

_HEADER_OR_OPCODE = re.compile(r"<(\w+)>|([\w$]+)=")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_DEFINE = re.compile(r"^\s*#define\s+\$(\w+)\s+(\S+)[^\S\n]*$", re.MULTILINE)
_INCLUDE = re.compile(r'^\s*#include\s+"([^"\n]+)"[^\S\n]*$', re.MULTILINE)
_NOTE = re.compile(r"^([a-g])([#sb]?)(-?\d)$")
_SEMITONE = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}

#: A header ends what the headers of its own rank and of those below said.
_RANK = {"control": 0, "global": 1, "master": 2, "group": 3, "region": 4}


class BadMapping(Permanent):
    """An SFZ file that cannot be read."""


@dataclass(frozen=True)
class Region:
    """One file of a mapping, as a key struck at some velocities plays it."""

    path: Path
    pitch: int  #: MIDI pitch recorded
    lowest_velocity: int
    highest_velocity: int
    volume_db: float  #: what the mapping adds to the file's level


def note_number(text: str) -> int:
    """MIDI pitch from "60", "c4", "C#4", "db4"; c4 is 60.

    Raises:
        ValueError: none of these.
    """
    if match := _NOTE.match(text.lower()):
        accidental = {"": 0, "#": 1, "s": 1, "b": -1}[match[2]]
        return 12 * (int(match[3]) + 1) + _SEMITONE[match[1]] + accidental
    return int(text)


def read_sfz(path: Path) -> list[Region]:
    """The regions of a mapping that play when a key is struck; of round robins the first.

    Args:
        path: of the SFZ file.

    Raises:
        NotFound: there is no such file.
        BadMapping: it holds no region, or one that says neither file nor key.
    """
    regions = []
    for opcodes in _regions(_source(path, 0)):
        if opcodes.get("trigger", "attack") not in ("attack", "first", "legato"):
            continue
        if int(_number(path, opcodes, "seq_position", 1)) != 1 or "on_locc64" in opcodes:
            continue
        if opcodes.get("sample", "").startswith("*"):
            continue  # a generator, no recording
        key = next((opcodes[name] for name in ("pitch_keycenter", "key", "lokey") if name in opcodes), None)
        if "sample" not in opcodes or key is None:
            raise BadMapping(f"{path}: a region without sample= or without key=, pitch_keycenter= or lokey=: {opcodes}")
        try:
            pitch = note_number(key)
        except ValueError:
            raise BadMapping(f"{path}: {key!r} is no key: write c4 or 60") from None
        file = (opcodes.get("default_path", "") + opcodes["sample"]).replace("\\", "/")
        regions.append(
            Region(
                path=path.parent / file,
                pitch=pitch,
                lowest_velocity=int(_number(path, opcodes, "lovel", 1)),
                highest_velocity=int(_number(path, opcodes, "hivel", 127)),
                volume_db=_number(path, opcodes, "volume", 0.0),
            )
        )
    if not regions:
        raise BadMapping(f"{path} maps no recordings to keys: give the SFZ file of an instrument")
    return regions


def _number(path: Path, opcodes: dict[str, str], name: str, default: float) -> float:
    try:
        return float(opcodes.get(name, default))
    except ValueError:
        raise BadMapping(f"{path}: {name}={opcodes[name]!r} is no number") from None


def _source(path: Path, depth: int) -> str:
    """The text with its includes in place, comments gone and definitions applied."""
    if depth > DEEPEST_INCLUDE:
        raise BadMapping(f"{path}: included {depth} deep; does a file include itself?")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFound(f"no SFZ file {path}") from None
    except OSError as error:
        raise BadMapping(f"{path} cannot be read: {error.strerror or error}") from None
    text = _COMMENT.sub("", text)
    text = _INCLUDE.sub(lambda found: _source(path.parent / found[1].replace("\\", "/"), depth + 1), text)
    if depth == 0:
        # Longest names first: $KEYBOARD is not $KEY.
        definitions = sorted(_DEFINE.findall(text), key=lambda item: -len(item[0]))
        text = _DEFINE.sub("", text)
        for name, value in definitions:
            text = text.replace(f"${name}", value)
    return text


def _regions(text: str) -> Iterator[dict[str, str]]:
    """Opcodes of each region, those of the headers above it among them."""
    levels: list[dict[str, str]] = [{} for _ in _RANK]
    rank: int | None = None
    found = list(_HEADER_OR_OPCODE.finditer(text))
    for number, match in enumerate(found):
        if match[1]:
            if rank == _RANK["region"]:
                yield _merged(levels)
            rank = _RANK.get(match[1].lower())
            if rank is not None and rank > 0:
                levels[rank:] = [{} for _ in levels[rank:]]
        elif rank is not None:
            # A value goes on to the end of its line or to the next opcode: file names hold spaces.
            end = found[number + 1].start() if number + 1 < len(found) else len(text)
            levels[rank][match[2].lower()] = text[match.end() : end].split("\n", 1)[0].strip()
    if rank == _RANK["region"]:
        yield _merged(levels)


def _merged(levels: list[dict[str, str]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for level in levels:
        merged |= level
    return merged
