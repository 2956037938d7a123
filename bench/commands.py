"""Whole commands measured from outside, start and end included: `pianofarm render`, and FluidSynth on the same piece."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import pieces
from bench.fresh import Measured, Unavailable
from bench.spread import spread

_Gate = Callable[[], None]

#: Where Debian's package fluid-soundfont-gm puts the sound font.
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")

_LIMIT_S = 240.0


def render(
    midi: str, model: str | None, backend: str | None, repeats: int, duration_s: float | None, gate: _Gate
) -> Measured:
    """`pianofarm render` in a new process each time, from its start to the WAV file on disk; what is timed is started once before.

    Args:
        midi: the file.
        model: folder or name; None: the default model.
        backend: tensorflow or jax; None: the default.
        repeats: processes that are timed.
        duration_s: how much is rendered; None: all, with its tail.
        gate: called before each.
    """
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as folder:
        output, first_s = Path(folder) / "out.wav", None
        command = [sys.executable, "-m", "pianofarm.cli", "render", midi, str(output), "--json"]
        command += ["--model", model] if model else []
        command += ["--backend", backend] if backend else []
        command += ["--duration", f"{duration_s:g}", "--no-tail"] if duration_s else []
        env = {**os.environ, "PIANOFARM_STATE_DIR": folder}
        if duration_s:
            # Libraries come as bytecode from the second start on, also where this environment is told to keep none.
            env.pop("PYTHONDONTWRITEBYTECODE", None)
            env["PYTHONPYCACHEPREFIX"] = str(Path(midi).parent / "bytecode")
            env["NUMBA_CACHE_DIR"] = str(Path(folder) / "loops")
            began = time.perf_counter()
            subprocess.run(command, env=env, capture_output=True, timeout=_LIMIT_S, check=False)
            first_s = time.perf_counter() - began
        took_s, reports = [], []
        for _ in range(repeats):
            gate()
            began = time.perf_counter()
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
            took_s.append(time.perf_counter() - began)
            if done.returncode:
                raise RuntimeError(f"pianofarm render: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
            reports.append(json.loads(done.stdout))
    return {
        "first_s": first_s,
        "process_s": spread(took_s),
        "audio_s": reports[-1]["audio_s"],
        "import_s": spread([report["import_s"] for report in reports]),
        "load_s": spread([report["load_s"] for report in reports]),
        "render_s": spread([report["render_s"] for report in reports]),
        "peak_rss_mb": max(report["peak_rss_mb"] for report in reports),
        "backend": reports[-1]["backend"],
        "dropped_notes": reports[-1]["dropped_notes"],
    }


def fluidsynth(midi: str, repeats: int, gate: _Gate) -> Measured:
    """FluidSynth with FluidR3 GM to a 44.1 kHz stereo WAV, its reverb and chorus on as by default.

    What a file of one short note costs (mostly loading the sound font) is told apart.
    """
    program = shutil.which("fluidsynth")
    if program is None or not SOUND_FONT.is_file():
        missing = "fluidsynth" if program is None else SOUND_FONT.name
        raise Unavailable(f"{missing} is not installed (Debian: apt-get install fluidsynth fluid-soundfont-gm)")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_LIMIT_S, check=True).stdout
    version = re.search(r"\d+\.\d+\.\d+", said)
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as folder:
        short = Path(folder) / "short.mid"
        short.write_bytes(pieces.generate(0.2, pieces.DENSE, seed=1))
        gate()
        start_s = min(_play(program, short, Path(folder))[0] for _ in range(2))
        runs = [_play(program, Path(midi), Path(folder)) for _ in range(repeats)]
    audio_s = runs[-1][1]
    return {
        "version": version.group() if version else "unknown",
        "sound_font": SOUND_FONT.name,
        "audio_s": audio_s,
        "start_s": start_s,
        "took_s": [took_s for took_s, _ in runs],
        "real_time_factor": spread([audio_s / max(1e-3, took_s - start_s) for took_s, _ in runs]),
        "real_time_factor_with_start": spread([audio_s / took_s for took_s, _ in runs]),
    }


def _play(program: str, midi: Path, folder: Path) -> tuple[float, float]:
    """Seconds taken, seconds of audio."""
    output = folder / "fluid.wav"
    command: Sequence[Any] = [
        *(program, "-ni", "-q", "-g", "0.5", "-r", "44100", "-O", "s16", "-T", "wav"),
        *("-o", "synth.cpu-cores=1", "-F", output, SOUND_FONT, midi),
    ]
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=True)
    took_s = time.perf_counter() - began
    with wave.open(str(output)) as sound:
        return took_s, sound.getnframes() / sound.getframerate()
