"""The recordings' own hiss and rumble, which is there however many notes sound. Fits nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.analysis import KeyAnalysis
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.layout import Layout

#: What the last frames of the noise analysis hold, once a note is gone.
_LAST_FRAMES = 3

#: Below this it is the building that hums, 10 dB louder than all the rest: left out.
RUMBLE_HZ = 200.0

_SILENT_DB = -200.0


def room_tone_db(analyses: Sequence[KeyAnalysis], layout: Layout) -> NDArray[np.float32]:
    """Densities of the room tone: the median over layers of what the upper third of the keys, which die soonest, end in.

    Every other key's recordings of the Salamander Grand end in the same, within 4 dB above 3 kHz: -83 dB full scale above 200 Hz in
    all. A key a note would add it once more with every note of a chord.

    Args:
        analyses: by rising pitch.
        layout: of the model.

    Returns:
        [2, n_bands] float32, dB full scale^2 per Hz.
    """
    upper = analyses[-max(1, len(analyses) // 3) :]
    ends_db = [np.median(analysis.noise_db[..., -_LAST_FRAMES:].mean(axis=3), axis=1) for analysis in upper]
    centres_hz = band_centres_hz(layout.bands.n_bands, layout.sample_rate_hz)
    return np.where(centres_hz < RUMBLE_HZ, _SILENT_DB, np.median(ends_db, axis=0)).astype(np.float32)
