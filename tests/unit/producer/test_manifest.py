"""Names as users give them become submissions, or one line that says why not."""

import io
import sys
from pathlib import Path

import pytest

from pianofarm.manifest import expand
from pianofarm_common.errors import BadMidi, BadOption
from pianofarm_common.renders import PriorityClass

LIMIT = 1_000_000


@pytest.fixture
def pieces(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("a.mid", "b.MIDI", "deep/c.mid", "notes.txt"):
        (tmp_path / name).write_bytes(b"MThd")
    return tmp_path


def found(*names: str, options: dict[str, object] | None = None):
    return list(expand(names, options or {}, LIMIT))


class _Input:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


def test_a_folder_is_searched_through_for_midi_files_in_order(pieces):
    assert [item.name for item in found(str(pieces))] == ["a.mid", "b.MIDI", "deep/c.mid"]


def test_a_glob_that_the_shell_left_alone_is_expanded(pieces):
    assert [Path(item.source).name for item in found(f"{pieces}/**/*.mid")] == ["a.mid", "c.mid"]


def test_a_file_is_taken_whatever_its_ending(pieces):
    assert found(f"{pieces}/notes.txt")[0].source == pieces / "notes.txt"


def test_a_file_name_with_brackets_is_no_glob(pieces):
    (pieces / "take [1].mid").write_bytes(b"MThd")
    assert len(found(f"{pieces}/take [1].mid")) == 1


@pytest.mark.parametrize(
    ("name", "why"), [("nothing-here.mid", "does not exist"), ("no-*.mid", "matches no file"), ("", "empty name")]
)
def test_a_name_that_leads_to_nothing_is_refused(tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadMidi, match=why):
        found(name)


def test_a_folder_without_midi_is_refused(tmp_path):
    with pytest.raises(BadMidi, match="no MIDI files"):
        found(str(tmp_path))


def test_a_table_sets_options_for_each_row_and_overrides_the_command_line(pieces):
    table = pieces / "set.csv"
    table.write_text(
        "path,name,priority,owner,piano,sample_rate_hz,dry\na.mid,first,bulk,me,3,44100,true\ndeep/c.mid,,,,,,\n"
    )
    first, second = found(str(table), options={"piano": 1, "tail": False})
    assert first.source == pieces / "a.mid"
    assert (first.name, first.priority, first.owner) == ("first", PriorityClass.BULK, "me")
    assert (first.options.piano, first.options.sample_rate_hz, first.options.dry, first.options.tail) == (
        3,
        44100,
        True,
        False,
    )
    assert (second.name, second.priority, second.options.piano) == ("deep/c.mid", None, 1)


def test_a_table_written_by_a_spreadsheet_may_begin_with_a_byte_order_mark(pieces):
    (pieces / "set.csv").write_bytes("path\r\na.mid\r\n".encode("utf-8-sig"))
    assert found(str(pieces / "set.csv"))[0].name == "a.mid"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file\na.mid\n", "unknown column 'file'"),
        ("name\nx\n", "no column 'path'"),
        ("path,piano\na.mid,many\n", "line 2: piano='many'"),
        ("path,priority\na.mid,now\n", "line 2: priority='now'"),
        ("path,name\n,x\n", "line 2: the cell 'path' is empty"),
        ("path,name\na.mid,Nocturne, No. 2\n", "line 2 has more cells than the header"),
        ("path\n", "no rows"),
        ("", "no column 'path'"),
        ("path,name\na.mid\n", None),
    ],
)
def test_a_table_that_cannot_be_used_names_its_line(pieces, text, why):
    (pieces / "set.csv").write_text(text)
    if why is None:
        assert len(found(str(pieces / "set.csv"))) == 1
        return
    with pytest.raises(BadOption, match=why):
        found(str(pieces / "set.csv"))


def test_standard_input_may_be_a_midi_file(monkeypatch):
    monkeypatch.setattr(sys, "stdin", _Input(b"MThd..."))
    (item,) = found("-")
    assert item.source == b"MThd..."


def test_standard_input_may_be_a_list_of_names(pieces, monkeypatch):
    monkeypatch.setattr(sys, "stdin", _Input(f"{pieces}/a.mid\n\n{pieces}/deep\n".encode()))
    assert [item.name or Path(item.source).name for item in found("-")] == ["a.mid", "c.mid"]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"-\n"])
def test_standard_input_of_no_use_is_refused(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", _Input(data))
    with pytest.raises(BadMidi):
        found("-")
