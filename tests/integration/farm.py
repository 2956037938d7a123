"""A farm of real processes for tests: sine workers and sweepers on the servers of the fixtures."""

import io
import json
import sys
from pathlib import Path

import pretty_midi
from pydantic import SecretStr
from services import Process, wait_until

from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE, find_model
from pianofarm_common.settings import Settings

HERE = Path(__file__).parent


def environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for a process of the farm."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()
    }
    return {
        f"PIANOFARM_{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in plain.items()
    }


def make_model(state_dir: Path, name: str = "sine") -> str:
    """A model folder for SinePiano; returns its digest."""
    folder = state_dir / "models" / name
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "architecture": "sine",
        "sample_rate_hz": 16000,
        "channels": 1,
        "n_pianos": 1,
        "default_piano": 0,
        "max_polyphony": None,
        "licence": "Apache-2.0",
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    (folder / WEIGHTS_FILE).write_bytes(b"no weights: " + name.encode())
    return find_model(name, state_dir).digest


def midi(*pitches: int, seconds: float = 0.5, velocity: int = 80) -> bytes:
    """A MIDI file with these notes, one after the other."""
    performance = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    for number, pitch in enumerate(pitches):
        piano.notes.append(pretty_midi.Note(velocity, pitch, number * seconds, (number + 1) * seconds))
    performance.instruments.append(piano)
    buffer = io.BytesIO()
    performance.write(buffer)
    return buffer.getvalue()


class SineFarm:
    """Starts and stops processes of one farm; `stop_all` leaves none."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.processes: list[Process] = []
        self.env = environment(settings) | {"PYTHONPATH": str(HERE)}

    def worker(self, name: str = "worker", **settings: str) -> Process:
        argv = [
            sys.executable,
            "-m",
            "celery",
            "--app=sine_farm",
            "--quiet",
            "worker",
            "--pool=prefork",
            "--concurrency=1",
        ]
        argv += ["--queues=interactive,standard,bulk", f"--hostname={name}@%h", "--without-gossip", "--without-mingle"]
        process = self._start(argv, name, settings)
        wait_until(lambda: "ready." in process.output(), f"worker {name}", process=process)
        return process

    def sweeper(self) -> Process:
        return self._start([sys.executable, "-m", "pianofarm_worker.sweeper"], "sweeper", {})

    def stop_all(self) -> None:
        for process in self.processes:
            process.kill()

    def _start(self, argv: list[str], name: str, settings: dict[str, str]) -> Process:
        log = self.folder / f"{name}-{len(self.processes)}.log"
        process = Process(argv, log, self.env | settings)
        self.processes.append(process)
        return process
