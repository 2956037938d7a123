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
from typing import Any, Self

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


class FluidSynth:
    """FluidSynth with FluidR3 GM, a piece to a 44.1 kHz stereo WAV again and again, its reverb and chorus on as by default.

    What a file of one short note costs (mostly loading the sound font) is told apart. Use it as a context manager.
    """

    def __init__(self, midi: str) -> None:
        """Find out what starting costs.

        Raises:
            Unavailable: the program or the sound font is not installed.
        """
        program = shutil.which("fluidsynth")
        if program is None or not SOUND_FONT.is_file():
            missing = "fluidsynth" if program is None else SOUND_FONT.name
            raise Unavailable(f"{missing} is not installed (Debian: apt-get install fluidsynth fluid-soundfont-gm)")
        self._program, self._midi = program, Path(midi)
        self._folder = tempfile.TemporaryDirectory(prefix="pianofarm-measure-")
        self._runs: list[tuple[float, float]] = []  # seconds taken, seconds of audio
        short = Path(self._folder.name) / "short.mid"
        short.write_bytes(pieces.generate(0.2, pieces.DENSE, seed=1))
        self._start_s = min(self._play(short)[0] for _ in range(2))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def play(self) -> None:
        """Once more."""
        self._runs.append(self._play(self._midi))

    def measured(self) -> Measured:
        """What the runs say."""
        command = [self._program, "--version"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True).stdout
        version = re.search(r"\d+\.\d+\.\d+", said)
        audio_s = self._runs[-1][1]
        took_s = [seconds for seconds, _ in self._runs]
        return {
            "version": version.group() if version else "unknown",
            "sound_font": SOUND_FONT.name,
            "audio_s": audio_s,
            "start_s": self._start_s,
            "took_s": took_s,
            "real_time_factor": spread([audio_s / max(1e-3, seconds - self._start_s) for seconds in took_s]),
            "real_time_factor_with_start": spread([audio_s / seconds for seconds in took_s]),
        }

    def _play(self, midi: Path) -> tuple[float, float]:
        output = Path(self._folder.name) / "fluid.wav"
        command: Sequence[Any] = [
            *(self._program, "-ni", "-q", "-g", "0.5", "-r", "44100", "-O", "s16", "-T", "wav"),
            *("-o", "synth.cpu-cores=1", "-F", output, SOUND_FONT, midi),
        ]
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=True)
        took_s = time.perf_counter() - began
        with wave.open(str(output)) as sound:
            return took_s, sound.getnframes() / sound.getframerate()
