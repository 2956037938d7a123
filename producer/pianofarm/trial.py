"""A short chord rendered in this process: the proof that a model and its backend work. For `doctor` and `models verify`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pianofarm_common.errors import QualityGateFailed
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.renders import RenderOptions
from pianofarm_common.settings import Settings

#: C major in the middle of the keyboard: every published piano has these keys.
CHORD = (48, 60, 64, 67)
CHORD_S = 1.0


@dataclass(frozen=True)
class Trial:
    """What came out."""

    load_s: float
    render_s: float
    audio_s: float
    peak_dbfs: float


def render_chord(model: ModelInfo, settings: Settings) -> Trial:
    """Load a model and render a chord.

    Raises:
        BadModel: it cannot be loaded.
        QualityGateFailed: what it renders is silent or not finite.
    """
    from pianofarm_worker.synth.piano import load

    began = time.perf_counter()
    piano = load(model, backend=settings.backend, precision=settings.precision)
    loaded = time.perf_counter()
    n_notes = len(CHORD)
    chord = Performance(
        onset_s=np.zeros(n_notes),
        offset_s=np.full(n_notes, CHORD_S),
        pitch=np.array(CHORD, np.uint8),
        velocity=np.full(n_notes, 80, np.uint8),
        control_s=np.zeros(0),
        control_number=np.zeros(0, np.uint8),
        control_value=np.zeros(0, np.uint8),
    )
    rendering = piano.render(chord, RenderOptions(tail=False), seed=0)
    peak = float(np.abs(rendering.wet).max(initial=0.0))
    if not np.isfinite(rendering.wet).all() or peak < 1e-5:
        raise QualityGateFailed(
            f"model {model.name!r} renders a chord with a peak of {peak:g}: its weights are damaged"
        )
    return Trial(
        load_s=loaded - began,
        render_s=time.perf_counter() - loaded,
        audio_s=len(rendering.wet) / rendering.sample_rate_hz,
        peak_dbfs=20 * float(np.log10(peak)),
    )
