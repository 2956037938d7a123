"""`pianofarm play`: sound into a pipe and on a device, and a clear word where there is neither."""

import io
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pianofarm.cli import run
from pianofarm.playing import TAIL_S, Request, play
from pianofarm.sinks import DeviceSink, PipeSink
from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.settings import Settings

PIECE = Path(__file__).parents[3] / "examples" / "pedal-study.mid"
#: Whoever started the tests may have told their children to ignore Ctrl-C.
COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom pianofarm.cli import main; main()"
)


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "play", str(PIECE), "--stdout", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PIANOFARM_STATE_DIR": str(tmp_path)},
    )


def performance():
    return read_performance(PIECE.read_bytes(), MidiLimits.from_settings(Settings()))


def test_a_pipe_gets_a_wav_file_of_the_whole_piece_and_its_tail(tmp_path):
    out, said = start(tmp_path, "--block-ms", "40").communicate(timeout=250)
    audio, rate_hz = soundfile.read(io.BytesIO(out), dtype="float32")

    assert audio.shape[1] == 2
    assert 0 <= len(audio) / rate_hz - performance().duration_s - TAIL_S <= 0.04
    assert 0.05 < np.abs(audio).max() <= 1.0
    assert np.abs(audio[-rate_hz // 10 :]).max() < 0.01
    assert len(said.splitlines()) == 1
    assert b"0 underruns" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", [[], ["--raw"]])
def test_a_disk_without_room_is_said_in_one_line(tmp_path, form):
    command = [sys.executable, "-c", COMMAND, "play", str(PIECE), "--stdout", *form]
    env = os.environ | {"PIANOFARM_STATE_DIR": str(tmp_path)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("pianofarm: no room for the sound")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error_and_ctrl_c_is_one_line(tmp_path):
    leaving, interrupted = start(tmp_path, "--raw"), start(tmp_path, "--raw")
    leaving.stdout.read(4000)
    leaving.stdout.close()
    interrupted.stdout.read(4000)
    interrupted.send_signal(signal.SIGINT)
    # Read on: a reader that left might be noticed before the signal.
    _, said = interrupted.communicate(timeout=250)

    assert leaving.wait(250) == 0
    assert leaving.stderr.read() == b""
    leaving.stderr.close()
    assert interrupted.returncode == 130
    assert said == b"pianofarm: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stdout", "--block-ms", "10"), "block_ms=10"),
        (("--stdout", "--piano", "7"), "piano=7"),
        (("--stdout", "--piano", "-1"), "piano=-1"),
        (("--stdout", "--backend", "torch"), "--backend torch"),
        (("--raw",), "add --stdout"),
        ((), "pianofarm play FILE --stdout | aplay"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line_before_a_model_is_loaded(
    arguments, said, capfd, monkeypatch, tmp_path
):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("pianofarm_worker.synth.piano.load", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    assert run(["play", str(PIECE), *arguments]) == 2
    out, complaint = capfd.readouterr()
    assert out == ""
    assert said in complaint
    assert complaint.count("\n") == 1


class SoundCard(types.ModuleType):
    """What PortAudio's Python package looks like from here, with a card that runs dry in every third block."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *, rates=(32_000,)):
        super().__init__("sounddevice")
        self.did, self.heard, self.rates = [], [], rates

    def OutputStream(self, **asked):  # noqa: N802 - its name there
        if asked["samplerate"] not in self.rates:
            raise self.PortAudioError("Invalid sample rate")
        self.did.append(asked)
        return self

    def start(self):
        self.did.append("start")

    def stop(self):
        self.did.append("stop")

    def abort(self):
        self.did.append("abort")

    def close(self):
        self.did.append("close")

    def write(self, block):
        self.heard.append(block.copy())
        return len(self.heard) % 3 == 0


def test_a_sound_device_gets_every_block_and_its_underruns_are_counted(monkeypatch):
    card = SoundCard()
    monkeypatch.setitem(sys.modules, "sounddevice", card)

    def open_device(sample_rate_hz, n_channels, block_samples, _n_blocks):
        return DeviceSink(sample_rate_hz=sample_rate_hz, n_channels=n_channels, block_samples=block_samples, device="1")

    request = Request(midi=str(PIECE), model=None, piano=None, block_ms=40, backend=None, tail=False)
    report = play(request, Settings(), open_device)

    asked = card.did[0]
    assert (asked["samplerate"], asked["channels"], asked["blocksize"], asked["device"]) == (32_000, 2, 1280, 1)
    assert card.did[1:] == ["start", "stop", "close"]
    assert {block.shape for block in card.heard} == {(1280, 2)}
    assert report.underruns == len(card.heard) // 3
    assert report.played_s == pytest.approx(len(card.heard) * 0.04)
    assert report.notes == len(performance().pitch)


def test_a_device_is_silenced_at_once_when_something_goes_wrong(monkeypatch):
    card = SoundCard()
    monkeypatch.setitem(sys.modules, "sounddevice", card)

    def interrupted():
        with DeviceSink(sample_rate_hz=32_000, n_channels=2, block_samples=256):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert card.did[1:] == ["start", "abort", "close"]


def test_a_device_that_cannot_do_it_is_refused_with_the_way_out(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sounddevice", SoundCard(rates=()))

    assert run(["play", str(PIECE)]) == 2
    assert "Invalid sample rate (or write to a player" in capfd.readouterr().err


def test_loud_blocks_are_clipped_not_wrapped():
    file = io.BytesIO()
    with PipeSink(file, sample_rate_hz=16_000, n_channels=1, n_samples=4) as sink:
        assert sink.write(np.array([[0.5], [1.5], [-3.0], [0.0]], np.float32)) is False
    samples, rate_hz = soundfile.read(io.BytesIO(file.getvalue()), dtype="int16")

    assert rate_hz == 16_000
    np.testing.assert_array_equal(samples, [16384, 32767, -32767, 0])
