"""What a newcomer runs: the demo, with every real part, in processes of its own. Nothing is left behind but what is documented."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pretty_midi
import psutil
import pytest
import soundfile

#: Everything in a state folder that docs/settings.md explains.
DOCUMENTED = {"farm.env", "farm.json", "supervisor.lock", "logs", "redis", "s3", "renders", "tmp"}


@pytest.fixture
def pieces(tmp_path: Path) -> Path:
    folder = tmp_path / "pieces"
    folder.mkdir()
    for number, pitch in enumerate((48, 72)):
        midi = pretty_midi.PrettyMIDI()
        piano = pretty_midi.Instrument(0)
        piano.notes += [pretty_midi.Note(80, pitch + step, step * 0.25, step * 0.25 + 0.2) for step in range(8)]
        midi.instruments.append(piano)
        midi.write(str(folder / f"piece-{number}.mid"))
    return folder


def demo(pieces: Path, tmp_path: Path) -> tuple[list[dict[str, object]], str]:
    """One run in a home of its own: what it printed for scripts, and for people."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIANOFARM_", "AWS_", "XDG_"))}
    env |= {"HOME": str(home), "PIANOFARM_STATE_DIR": str(tmp_path / "state"), "MARK_OF_THIS_TEST": str(tmp_path)}
    command = [sys.executable, "-m", "pianofarm.cli", "demo", str(pieces), "--json"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert os.listdir(home) == []
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def survivors(tmp_path: Path) -> list[list[str]]:
    """Command lines of processes that were started by this test and still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK_OF_THIS_TEST") == str(tmp_path):
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def test_the_demo_renders_through_a_whole_farm_and_the_second_time_everything_is_in_the_cache(pieces, tmp_path):
    first, said = demo(pieces, tmp_path)
    assert "Flower shows the queue at http://127.0.0.1:" in said
    assert [line["piece"] for line in first] == ["piece-0.mid", "piece-1.mid"]
    for line in first:
        assert line["cached"] is False
        path = Path(str(line["path"]))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == line["sha256"]
        samples, rate_hz = soundfile.read(path, always_2d=True)
        assert len(samples) / rate_hz == pytest.approx(line["audio_s"])
        assert line["audio_s"] >= 1.95
        assert np.abs(samples).max() > 0.01
        assert str(line["storage_key"]).startswith("renders/")
        assert float(line["render_s"]) > 0
    assert survivors(tmp_path) == []

    second, said = demo(pieces, tmp_path)
    assert "every piece was a cache hit" in said
    for before, now in zip(first, second, strict=True):
        assert now == {**before, "cached": True}
    assert survivors(tmp_path) == []
    assert set(os.listdir(tmp_path / "state")) <= DOCUMENTED
    assert set(os.listdir(tmp_path)) == {"home", "pieces", "state"}
