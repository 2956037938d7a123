"""The door to `.venv-ears`, where ViSQOL, Zimtohrli and Transkun are: sounds go as files, figures come as JSON."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import NotFound, ServiceUnavailable

_REPOSITORY = Path(__file__).resolve().parents[3]

#: Rate of the files: ViSQOL's audio mode and Zimtohrli want it.
RATE_HZ = 48_000

_LIMIT_S = 3600.0

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Opinion:
    """What models of hearing say of a sound against its reference."""

    visqol: float  #: predicted opinion, higher is nearer
    zimtohrli: float  #: distance, lower is nearer


class Ears:
    """The environment that listens."""

    def __init__(self, python: Path = _REPOSITORY / ".venv-ears/bin/python") -> None:
        """Find it.

        Args:
            python: its interpreter.

        Raises:
            NotFound: it has not been made.
        """
        if not python.is_file():
            raise NotFound(f"{python} is missing: 'make .venv-ears/.ready' sets it up (torch and others, 1 GB)")
        self._command = [str(python), str(_REPOSITORY / "training/listening/listen.py")]

    def listen(
        self, pairs: Sequence[tuple[Sound, Sound]], sounds: Sequence[Sound], rate_hz: int
    ) -> tuple[list[Opinion], list[NDArray[np.float64]]]:
        """Compare and transcribe.

        Args:
            pairs: sounds and their references, of the same loudness and number of channels.
            sounds: what to transcribe.
            rate_hz: of all of them.

        Returns:
            An opinion for each pair; notes for each sound, [n, 4]: onset and offset in seconds, pitch, velocity.

        Raises:
            ServiceUnavailable: it failed; the message is its last line.
        """
        with tempfile.TemporaryDirectory(prefix="pianofarm-evaluate-") as folder:

            def written(sound: Sound, name: str) -> str:
                import soundfile
                import soxr

                path = Path(folder) / f"{name}.wav"
                soundfile.write(path, soxr.resample(sound, rate_hz, RATE_HZ, quality="HQ"), RATE_HZ, subtype="FLOAT")
                return str(path)

            asked = {
                "compare": [
                    [written(ours, f"ours-{n}"), written(theirs, f"theirs-{n}")]
                    for n, (ours, theirs) in enumerate(pairs)
                ],
                "transcribe": [written(sound, f"sound-{n}") for n, sound in enumerate(sounds)],
            }
            done = subprocess.run(
                self._command, input=json.dumps(asked), capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise ServiceUnavailable(f"{self._command[1]} failed with code {done.returncode}: {lines[-1]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        opinions = [Opinion(**found) for found in answer["compare"]]
        return opinions, [np.array(notes, np.float64).reshape(-1, 4) for notes in answer["transcribe"]]
