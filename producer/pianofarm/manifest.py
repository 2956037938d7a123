"""Names on a command line -> submissions: files, folders, globs, CSV tables and `-`. Looks at files, submits nothing.

A CSV table has a column `path` (relative to the table's folder) and any of `name`, `model`, `priority`, `owner` and the render
options; an empty cell means the default.
"""

from __future__ import annotations

import csv
import glob
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pianofarm.submission import Submission, parse_options, parse_priority
from pianofarm_common.errors import BadMidi, BadOption
from pianofarm_common.renders import RenderOptions

#: What a folder or a table's column is searched for.
MIDI_SUFFIXES = frozenset({".mid", ".midi", ".kar"})

_OWN_COLUMNS = ("path", "name", "model", "priority", "owner")
_STANDARD_INPUT = "-"
_MIDI_MAGIC = b"MThd"


def expand(names: Sequence[str], options: Mapping[str, object], max_bytes: int) -> Iterator[Submission]:
    """Submissions for names as a user gives them.

    Args:
        names: files, folders (searched through), globs, `.csv` tables, or `-` for a MIDI file or a list of names on standard input.
        options: render options from the command line; a table's cells win over them.
        max_bytes: no more than this and one byte are read from standard input.

    Raises:
        BadMidi: a name leads to nothing.
        BadOption: a table holds what cannot be used; the message names its line.
    """
    for name in names:
        path = Path(name)
        if not name:
            raise BadMidi("an empty name: give files, folders, globs, .csv tables or -")
        if name == _STANDARD_INPUT:
            yield from _standard_input(options, max_bytes)
        elif path.is_dir():
            yield from _folder(path, options)
        elif path.suffix.lower() == ".csv":
            yield from _table(path, options)
        elif path.exists():
            yield Submission(path, options=options)
        else:
            yield from _glob(name, options)


def _standard_input(options: Mapping[str, object], max_bytes: int) -> Iterator[Submission]:
    if sys.stdin.isatty():
        raise BadMidi(
            "'-' reads a MIDI file or a list of names from standard input, which is a terminal: pipe something into it"
        )
    data = sys.stdin.buffer.read(max_bytes + 1)
    if data.startswith(_MIDI_MAGIC):
        yield Submission(data, name="standard input", options=options)
        return
    try:
        names = [line.strip() for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise BadMidi(
            "standard input is neither a MIDI file (it does not begin with MThd) nor a list of names in UTF-8"
        ) from None
    if not names:
        raise BadMidi("standard input is empty: pipe a MIDI file or a list of names into it")
    if _STANDARD_INPUT in names:
        raise BadMidi("'-' on standard input names standard input itself")
    yield from expand(names, options, max_bytes)


def _folder(folder: Path, options: Mapping[str, object]) -> Iterator[Submission]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MIDI_SUFFIXES and path.is_file())
    if not paths:
        raise BadMidi(f"the folder {folder} holds no MIDI files ({', '.join(sorted(MIDI_SUFFIXES))})")
    for path in paths:
        yield Submission(path, name=path.relative_to(folder).as_posix(), options=options)


def _glob(pattern: str, options: Mapping[str, object]) -> Iterator[Submission]:
    paths = sorted(Path(found) for found in glob.glob(pattern, recursive=True))
    files = [path for path in paths if path.is_file()]
    if not files:
        what = "matches no file" if glob.has_magic(pattern) else "does not exist"
        raise BadMidi(f"{pattern} {what}")
    for path in files:
        yield Submission(path, options=options)


def _table(path: Path, options: Mapping[str, object]) -> Iterator[Submission]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"cannot read the table {path}: {error}") from None
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        columns = rows.fieldnames or []
        allowed = (*_OWN_COLUMNS, *RenderOptions.model_fields)
        unknown = [column for column in columns if column not in allowed]
        if "path" not in columns or unknown:
            what = f"unknown column {unknown[0]!r}" if unknown else "no column 'path'"
            raise BadOption(f"the table {path} has {what} (columns: {', '.join(allowed)})")
        found = False
        for row in rows:
            found = True
            if None in row:
                raise BadOption(
                    f"the table {path}, line {rows.line_num} has more cells than the header (quote names with commas in them)"
                )
            yield _row(
                path, rows.line_num, {column: value for column, value in row.items() if column and value}, options
            )
        if not found:
            raise BadOption(f"the table {path} has no rows")
    except csv.Error as error:
        raise BadOption(f"the table {path}, line {rows.line_num}: {error}") from None


def _row(table: Path, line: int, cells: Mapping[str, str], options: Mapping[str, object]) -> Submission:
    where = f"the table {table}, line {line}"
    if "path" not in cells:
        raise BadOption(f"{where}: the cell 'path' is empty")
    try:
        merged = {**options, **{column: _value(value) for column, value in cells.items() if column not in _OWN_COLUMNS}}
        return Submission(
            table.parent / cells["path"],
            name=cells.get("name", "") or cells["path"],
            model=cells.get("model"),
            options=parse_options(merged),
            priority=parse_priority(cells["priority"]) if "priority" in cells else None,
            owner=cells.get("owner"),
            origin=where,
        )
    except BadOption as error:
        raise BadOption(f"{where}: {error}") from None


def _value(cell: str) -> object:
    """A cell as a number where it is one: options with fixed choices take no text."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
