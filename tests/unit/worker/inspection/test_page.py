"""The page of a rendered file: whole, self-contained, true to its notes, and safe whatever files are called."""

import base64
import io
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pretty_midi
import pytest
import soundfile

from pianofarm.cli import run
from pianofarm_worker.inspection.spectrogram import LOWEST_HZ, coloured, png, spectrogram_dbfs

RATE = 16_000


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A score of three notes, one beyond the keyboard, and two seconds of audio."""
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    song = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    piano.notes = [pretty_midi.Note(*note) for note in ((40, 69, 0.0, 0.4), (90, 69, 0.5, 1.0), (64, 110, 1.2, 1.5))]
    song.instruments.append(piano)
    song.write("in.mid")
    t = np.arange(2 * RATE) / RATE
    soundfile.write("out.wav", np.where(t < 0.5, 0.03, 0.3) * np.sin(2 * np.pi * 440 * t), RATE)
    return tmp_path


class Reader(HTMLParser):
    """Everything that a browser would fetch, and the notes of the roll."""

    def __init__(self):
        super().__init__()
        self.sources, self.notes = [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.sources += [given[name] for name in ("src", "href") if name in given]
        if tag == "rect":
            self.notes.append(given["fill"])


def test_one_page_holds_everything(files, capsys):
    assert run(["inspect", "out.wav", "--midi", "in.mid", "--json"]) == 0

    said = capsys.readouterr().out
    assert '"notes": 3, "dropped": 1, "measured": 2' in said
    page = (files / "out.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert all(source.startswith("data:") for source in reader.sources)
    assert [fill == "#d00000" for fill in reader.notes] == [False, False, True]
    assert page.count("<circle") == 2
    (audio,) = (source for source in reader.sources if source.startswith("data:audio/ogg"))
    heard, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(audio.partition(",")[2])))
    assert (len(heard), rate_hz) == (2 * RATE, RATE)


def test_a_long_file_is_shown_from_its_beginning(files, capsys):
    assert run(["inspect", "out.wav", "--midi", "in.mid", "--out", "short.html", "--length", "1", "--json"]) == 0

    assert '"notes": 2, "dropped": 0' in capsys.readouterr().out
    assert "of which the first 1 s are shown" in (files / "short.html").read_text()


def test_a_file_is_called_what_it_is_called(files, capsys):
    (files / "out.wav").rename(files / "<script>alert(1)<wav>.wav")
    assert run(["inspect", "<script>alert(1)<wav>.wav", "--midi", "in.mid", "-o", "page.html"]) == 0

    assert "<script>alert" not in (files / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["missing.wav", "--midi", "in.mid"], "missing.wav"),
        (["in.mid", "--midi", "in.mid", "-o", "x.html"], "cannot read in.mid as audio"),
        (["out.wav", "--midi", "out.wav"], "out.wav"),
        (["out.wav", "--midi", "in.mid", "-o", "in.mid"], "that is an input"),
        (["empty.wav", "--midi", "in.mid"], "holds no samples"),
    ],
)
def test_what_cannot_be_inspected_says_why_and_leaves_nothing(files, capsys, arguments, why):
    soundfile.write("empty.wav", np.zeros(0), RATE)
    before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}

    assert run(["inspect", *arguments]) == 2

    assert why in capsys.readouterr().err
    assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_a_tone_lies_in_its_row_of_the_spectrogram_at_its_level():
    tone = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)[:, None]

    shown = spectrogram_dbfs(tone, RATE, n_columns=10, n_rows=100)

    row = round(100 * (1 - np.log(1000 / LOWEST_HZ) / np.log(RATE / 2 / LOWEST_HZ)))
    assert abs(int(shown[:, 5].argmax()) - row) <= 1
    assert shown[:, 5].max() == pytest.approx(-20.0, abs=1.5)


def test_a_picture_is_a_png_of_its_pixels():
    pixels = coloured(np.array([[0.0, -45.0], [-90.0, -200.0]], np.float32))
    picture = png(pixels)

    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    (data,) = re.findall(rb"IDAT(.*?)....\x00\x00\x00\x00IEND", picture, re.DOTALL)
    assert zlib.decompress(data) == b"".join(b"\0" + row.tobytes() for row in pixels)
    assert list(pixels[0, 0]) == [252, 255, 164]
    assert list(pixels[1, 1]) == [0, 0, 4]
