"""How long a render takes: a line through measured times, with their scatter. From a small JSON file that a measurement wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.random import Generator

#: The profiles this simulation is fed with.
SERVICE_TIMES = Path(__file__).parent / "service_times.json"


@dataclass(frozen=True)
class Service:
    """Time of one worker for one render: `overhead_s + audio_s / speed`, times log-normal scatter of mean 1."""

    overhead_s: float  #: what does not grow with the audio: claim, fetch, upload, commit
    speed: float  #: audio seconds made in a second
    cv: float  #: coefficient of variation of the scatter; 0: none
    source: str = ""  #: where the figures come from

    def draw(self, audio_s: float, rng: Generator) -> float:
        """A service time, seconds."""
        mean_s = self.overhead_s + audio_s / self.speed
        if self.cv <= 0:
            return mean_s
        variance = math.log1p(self.cv**2)
        return mean_s * math.exp(rng.normal(-variance / 2, math.sqrt(variance)))

    @classmethod
    def fitted(cls, audio_s: Sequence[float], service_s: Sequence[float], source: str) -> Self:
        """The least-squares line through measured times, weighted by 1 / time: long pieces must not hide short ones.

        Scaled so that its times add up to those measured, as a scatter of mean 1 demands.

        Raises:
            ValueError: fewer than three measurements, or times that do not grow with the audio.
        """
        audio, service = np.asarray(audio_s, float), np.asarray(service_s, float)
        if len(audio) < 3 or np.ptp(audio) == 0:
            raise ValueError("a fit needs three measurements or more, of different lengths")
        slope, overhead = np.polyfit(audio, service, 1, w=1.0 / service)
        if slope <= 0:
            raise ValueError(f"times do not grow with the audio (slope {slope:.3g})")
        overhead = max(0.0, float(overhead))
        scale = float(np.sum(service) / np.sum(overhead + slope * audio))
        overhead, slope = scale * overhead, scale * slope
        scatter = service / (overhead + slope * audio)
        return cls(overhead, 1.0 / float(slope), float(np.std(scatter) / np.mean(scatter)), source)


def load_services(path: Path = SERVICE_TIMES) -> dict[str, Service]:
    """The profiles of a file, by name."""
    return {name: Service(**profile) for name, profile in json.loads(path.read_text())["profiles"].items()}


def save_service(name: str, service: Service, path: Path = SERVICE_TIMES) -> None:
    """Put a profile in the file, beside the others."""
    known = json.loads(path.read_text()) if path.is_file() else {"profiles": {}}
    known["profiles"][name] = asdict(service)
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
