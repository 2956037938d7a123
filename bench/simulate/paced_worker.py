"""A real worker whose piano takes a known time instead of computing: `celery -A bench.simulate.paced_worker worker`.

Queue, leases, storage and process handling are the true ones; only the synthesis is replaced, so that four workers can be held
against the simulation on a machine with two cores.
"""

from __future__ import annotations

import os
import time

import numpy as np

from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.renders import RenderOptions
from pianofarm_common.settings import Settings
from pianofarm_worker.composition import compose
from pianofarm_worker.synth.piano import Piano, Progress, Rendering

#: Audio seconds "made" in a second; `validate.py` sets it.
PACE_VARIABLE = "PIANOFARM_BENCH_PACE"
RATE_HZ = 8000
BLOCK_S = 0.05


class PacedPiano(Piano):
    """Sleeps as long as a synthesizer of this pace would compute, and returns noise that passes the quality gates."""

    def __init__(self, info: ModelInfo, pace: float) -> None:
        super().__init__(info)
        self._pace = pace

    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """Takes `duration / pace` seconds."""
        del options
        ends = time.monotonic() + performance.duration_s / self._pace
        while (left_s := ends - time.monotonic()) > 0:
            time.sleep(min(BLOCK_S, left_s))
            if progress is not None:
                progress(max(0.0, 1.0 - left_s * self._pace / performance.duration_s))
        n_samples = int(performance.duration_s * RATE_HZ)
        audio = np.random.default_rng(seed).normal(0.0, 0.05, (n_samples, 1)).astype(np.float32)
        return Rendering(audio, audio, RATE_HZ, len(performance.pitch), 0)


_settings = Settings.load()
app = compose(_settings, load_piano=lambda info: PacedPiano(info, float(os.environ[PACE_VARIABLE])))
