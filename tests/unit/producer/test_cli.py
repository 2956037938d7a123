"""The command line without services: every wrong request is one line on standard error and exit code 2 (or 3)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pretty_midi
import pytest
import soundfile

from pianofarm.cli import run

NOWHERE = {
    "PIANOFARM_REDIS_URL": "redis://127.0.0.1:1/0",
    "PIANOFARM_REDIS_TIMEOUT_S": "1",
    "PIANOFARM_S3_ENDPOINT": "http://127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, a state folder of its own, a score, and files that are none."""
    for name in [name for name in os.environ if name.startswith("PIANOFARM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    piano.notes.append(pretty_midi.Note(velocity=80, pitch=60, start=0.0, end=0.5))
    midi.instruments.append(piano)
    midi.write("score.mid")
    piano.notes.clear()
    midi.write("no-notes.mid")
    Path("empty.mid").touch()
    Path("text.mid").write_text("no music")
    return folder


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said: one line on standard error and nothing on standard output."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("pianofarm: ")
    return said.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("render missing.mid a.wav", "cannot read missing.mid"),
        ("render empty.mid a.wav", "empty.mid: byte 0: the file is empty"),
        ("render text.mid a.wav", "text.mid: byte 0"),
        ("render no-notes.mid a.wav", "no note"),
        ("render score.mid a.wav --model flute", "no model 'flute'"),
        ("render score.mid a.wav --model .", "holds no config.json"),
        ("render score.mid a.wav --piano 7", "piano=7"),
        ("render score.mid a.wav --piano two", "--piano"),
        ("render score.mid a.wav --sample-rate 12345", "sample_rate_hz=12345"),
        ("render score.mid a.wav --channels 3", "channels=3"),
        ("render score.mid a.wav --format mp3", "format='mp3'"),
        ("render score.mid a.mp3", "cannot write 'mp3'"),
        ("render score.mid a.wav --format flac", "--format flac in a file named .wav"),
        ("render score.mid a.wav --duration 0", "duration_s=0"),
        ("render score.mid a.wav --warm-up-s 100", "warm_up_s=100"),
        ("render score.mid a.wav --normalize-dbfs 6", "normalize_dbfs=6"),
        ("render score.mid a.wav --room 3", "room=3.0"),
        ("submit score.mid --room -1", "room=-1"),
        ("play score.mid --stdout --room 3", "room=3.0"),
        ("render score.mid a.wav --backend torch", "--backend torch"),
        ("render score.mid ..", "is a folder"),
        ("render score.mid empty.mid/a.wav", "cannot make the folder"),
        ("render score.mid a.wav --dry ..", "is a folder"),
        ("render score.mid a.wav --dry ./a.wav", "that is the output as well"),
        ("render score.mid a.wav --dry a.flac", "give both the same ending"),
        ("render score.mid", "Missing argument"),
        ("render score.mid a.wav --louder", "No such option"),
        ("rendre score.mid a.wav", "No such command"),
        ("submit", "Missing argument"),
        ("submit score.mid --out empty.mid/audio", "cannot make the folder"),
        ("models info flute", "no model 'flute'"),
        ("models import nowhere", "is no folder"),
        ("models import . --name default", "--name 'default'"),
        ("worker --cpu -1", "--cpu"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2_and_leaves_nothing(place, capsys, arguments, why):
    before = sorted(os.listdir(place))
    assert run(arguments.split()) == 2
    assert why in complaint(capsys)
    assert sorted(os.listdir(place)) == before


@pytest.mark.parametrize(
    "arguments", ["status", "watch x", "cancel x", "fetch x", "submit score.mid", "worker --cpu 1"]
)
def test_services_that_are_not_there_are_one_line_and_exit_code_3(monkeypatch, capsys, arguments):
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIANOFARM_S3_ACCESS_KEY", "a")
    monkeypatch.setenv("PIANOFARM_S3_SECRET_KEY", "b")
    assert run(arguments.split()) == 3
    assert "does not answer" in complaint(capsys)


def test_no_credentials_is_one_line_and_exit_code_2(monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert run(["submit", "score.mid"]) == 2
    assert "PIANOFARM_S3_ACCESS_KEY" in complaint(capsys)


def test_an_unusable_setting_is_named(monkeypatch, capsys):
    monkeypatch.setenv("PIANOFARM_LEASE_S", "soon")
    assert run(["status"]) == 2
    assert "PIANOFARM_LEASE_S" in complaint(capsys)


def test_a_state_folder_that_cannot_be_made_is_named(monkeypatch, capsys):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(Path("empty.mid").absolute() / "state"))
    assert run(["up"]) == 2
    assert "PIANOFARM_STATE_DIR" in complaint(capsys)


def test_doctor_looks_at_everything_and_asks_for_the_worst(monkeypatch, capsys):
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    assert run(["doctor", "--json"]) == 3
    findings = {line["part"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {part for part, found in findings.items() if found["verdict"] == "bad"} == {"Redis", "storage", "workers"}
    assert findings["model"]["verdict"] == "ok"


def test_down_without_a_farm_is_no_error(capsys):
    assert run(["down", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False}


def test_models_are_listed_described_and_verified(capsys):
    assert run(["models", "list", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert run(["models", "info", first["digest"][:12]]) == 0
    assert first["name"] in capsys.readouterr().out
    assert run(["models", "verify", "--json"]) == 0
    assert -60 < json.loads(capsys.readouterr().out)["peak_dbfs"] <= 0


def test_render_writes_audio_and_its_dry_sound_and_tells_a_script_about_it(capsys):
    assert (
        run(
            [
                "render",
                "score.mid",
                "a.wav",
                "--dry",
                "dry.wav",
                "--sample-rate",
                "8000",
                "--channels",
                "1",
                "--normalize-dbfs",
                "-6",
                "--json",
            ]
        )
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    samples, rate_hz = soundfile.read("a.wav")
    assert (rate_hz, samples.ndim) == (8000, 1)
    assert abs(samples).max() == pytest.approx(10 ** (-6 / 20), abs=1e-3)
    assert report["audio_s"] == pytest.approx(len(samples) / 8000)
    assert {
        "import_s",
        "load_s",
        "render_s",
        "real_time_factor",
        "peak_rss_mb",
        "notes",
        "dropped_notes",
        "sha256",
    } <= set(report)
    assert report["notes"] == 1
    assert soundfile.info("dry.wav").samplerate == 8000


def test_render_says_where_the_loudness_that_was_asked_for_is_not_reached(place, capsys):
    assert run(["render", "score.mid", "a.wav", "--normalize-lufs", "-30"]) == 0
    assert "LUFS" not in capsys.readouterr().err
    assert run(["render", "score.mid", "a.wav", "--normalize-lufs", "-5"]) == 0
    assert "LUFS, not -5: louder, its peaks would clip" in capsys.readouterr().err
    assert run(["render", "score.mid", "a.wav", "--duration", "0.3", "--no-tail", "--normalize-lufs", "-18"]) == 0
    assert "its level was left as it was" in capsys.readouterr().err


def test_without_the_room_a_render_is_its_dry_sound():
    assert run(["render", "score.mid", "a.wav", "--dry", "dry.wav", "--room", "0", "--json"]) == 0
    assert Path("a.wav").read_bytes() == Path("dry.wav").read_bytes()


def test_render_takes_the_format_from_the_ending_and_the_midi_from_standard_input(place):
    score = (place / "score.mid").read_bytes()
    command = [sys.executable, "-m", "pianofarm.cli", "render", "-", "a.flac", "--no-tail", "--duration", "0.25"]
    done = subprocess.run(command, input=score, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"a.flac\n"
    info = soundfile.info("a.flac")
    assert (info.format, info.duration) == ("FLAC", pytest.approx(0.25, abs=0.01))


def test_help_is_there_without_loading_an_array_library_or_a_service_client():
    code = (
        "import sys\nfrom pianofarm.cli import run\nassert run(['submit', '--help']) == 0\n"
        "print(sorted({'tensorflow', 'keras', 'jax', 'boto3', 'redis', 'celery', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_a_render_of_the_default_model_imports_nothing_that_it_does_not_need():
    code = (
        "import sys\nfrom pianofarm.cli import run\nassert run(['render', 'score.mid', 'a.wav', '--json', '--duration', '0.5']) == 0\n"
        "print(sorted({'tensorflow', 'keras', 'jax', 'scipy.linalg', 'scipy.signal', 'boto3', 'redis', 'celery', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
