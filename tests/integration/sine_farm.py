"""A worker's Celery app whose pianos are sine tones: the farm without an array library. `celery -A sine_farm worker`.

What a note asks for besides sound, so that tests can make things happen at a known moment:
pitch 21 kills the process, 22 and 26 wait while the files `hold` and `hold too` exist in the state folder, 23 fails as a network does
while `cut` exists, 24 is silent, 25 fails for good. A child process that starts is not ready while `unready` exists.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
from celery import signals

from pianofarm_common.errors import BadMidi, Transient
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.renders import RenderOptions
from pianofarm_common.settings import Settings
from pianofarm_worker.composition import compose
from pianofarm_worker.synth.piano import Piano, Progress, Rendering

KILLS, WAITS, NETWORK, SILENT, REFUSED, WAITS_TOO = 21, 22, 23, 24, 25, 26
HOLDS = {WAITS: "hold", WAITS_TOO: "hold too"}
RATE_HZ = 16000


class SinePiano(Piano):
    def __init__(self, info: ModelInfo, state_dir: Path, batch_size: int = 1) -> None:
        super().__init__(info)
        self.state_dir = state_dir
        self.batch_size = batch_size

    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        pitches = set(performance.pitch.tolist())
        if KILLS in pitches:
            os.kill(os.getpid(), signal.SIGKILL)
        if NETWORK in pitches and (self.state_dir / "cut").exists():
            raise Transient("no network")
        if REFUSED in pitches:
            raise BadMidi("the piano refuses this")
        n_samples = int((performance.duration_s + 0.5) * RATE_HZ)
        time_s = np.arange(n_samples) / RATE_HZ
        wet = np.random.default_rng(seed).normal(0.0, 1e-3, n_samples)
        for onset_s, offset_s, pitch in zip(performance.onset_s, performance.offset_s, performance.pitch, strict=True):
            sounds = (time_s >= onset_s) & (time_s < offset_s)
            wet[sounds] += 0.1 * np.sin(2 * np.pi * 440.0 * 2.0 ** ((int(pitch) - 69) / 12) * time_s[sounds])
        for done in range(4):
            if progress is not None:
                progress(done / 4)
            while any((self.state_dir / name).exists() for pitch, name in HOLDS.items() if pitch in pitches):
                if progress is not None:
                    progress(done / 4)
                time.sleep(0.02)
        if SILENT in pitches:
            wet[:] = 0.0
        audio = wet.astype(np.float32)[:, None]
        return Rendering(
            wet=audio,
            dry=audio * np.float32(0.5),
            sample_rate_hz=RATE_HZ,
            notes=len(performance.pitch),
            dropped_notes=0,
        )


def wait_for_start(**_: object) -> None:
    while (_settings.state_dir / "unready").exists():
        time.sleep(0.02)


if __name__ == "sine_farm":  # not when a test only wants the names above
    _settings = Settings.load()
    app = compose(_settings, load_piano=lambda info: SinePiano(info, _settings.state_dir, _settings.batch_size or 1))
    signals.worker_process_init.connect(wait_for_start)
