"""A real farm on this machine for as long as a block runs: services, workers and sweeper as processes, in a folder of its own."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pretty_midi

from pianofarm.cli.farm import wait_for_services, wait_for_workers
from pianofarm.client import Farm as Client
from pianofarm.local.farm import LocalFarm, Workers
from pianofarm.local.plan import StateFolder
from pianofarm.local.supervisor import Program
from pianofarm.local.workers import worker_programs
from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE
from pianofarm_common.settings import Settings

#: The worker app with the piano of a known pace, and the variable that tells it the pace.
PACED_APP, PACE_VARIABLE = "bench.simulate.paced_worker", "PIANOFARM_BENCH_PACE"

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def running_farm(n_workers: int, *, pace: float | None) -> Iterator[Client]:
    """A farm of so many workers, and its client.

    Args:
        n_workers: CPU workers.
        pace: audio seconds a second of the paced piano; None: the model of the package.
    """
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as folder:
        state_dir = Path(folder)
        if pace is not None:
            _paced_model(state_dir)
        os.environ["PIANOFARM_STATE_DIR"] = str(state_dir)
        os.environ["PIANOFARM_MODEL"] = "paced" if pace is not None else "default"
        settings = Settings.load(state_dir)
        workers = worker_programs(settings, n_workers)
        farm = LocalFarm(state_dir)
        farm.up(settings, _paced(workers, pace) if pace is not None else workers, flower=False, attached=True)
        try:
            wait_for_services(farm)
            wait_for_workers(farm, Settings.load(state_dir))
            with Client.from_env(state_dir) as client:
                yield client
        finally:
            farm.down()


def midi_piece(length_s: float, pitch: int) -> bytes:
    """A piece of this length: two notes a second, and a last one that ends with it."""
    song = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    for start_s in np.arange(0.0, length_s - 0.5, 0.5):
        piano.notes.append(pretty_midi.Note(80, 40 + (pitch + int(start_s * 7)) % 48, start_s, start_s + 0.45))
    piano.notes.append(pretty_midi.Note(70, 30 + pitch % 60, max(0.0, length_s - 0.5), length_s))
    song.instruments.append(piano)
    buffer = io.BytesIO()
    song.write(buffer)
    return buffer.getvalue()


def _paced_model(state_dir: Path) -> None:
    folder = state_dir / "models" / "paced"
    folder.mkdir(parents=True)
    config = {"name": "paced", "architecture": "paced", "sample_rate_hz": 8000, "channels": 1, "n_pianos": 1}
    config |= {"default_piano": 0, "max_polyphony": None, "licence": "Apache-2.0"}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    (folder / WEIGHTS_FILE).write_bytes(b"no weights")


def _paced(workers: Workers, pace: float) -> Workers:
    def programs(folder: StateFolder) -> tuple[Program, ...]:
        return tuple(
            Program(
                program.name,
                tuple(f"--app={PACED_APP}" if part.startswith("--app=") else part for part in program.argv),
                {**program.env, PACE_VARIABLE: str(pace), "PYTHONPATH": str(REPOSITORY)},
                program.log,
                program.grace_s,
                program.last,
            )
            for program in workers(folder)
        )

    return programs
