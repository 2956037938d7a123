"""What the house piano's tests share: performances in one line, and the packaged model."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pianofarm_common.midi import Performance
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, read_model
from pianofarm_worker.synth.house.piano import HousePiano

Play = Callable[..., Performance]


@pytest.fixture(scope="session")
def play() -> Play:
    """A performance from (onset s, offset s, pitch, velocity) and (time s, controller, value)."""

    def perform(*notes: Sequence[float], controls: Sequence[Sequence[float]] = ()) -> Performance:
        note = np.array(sorted(notes), float).reshape(-1, 4)
        control = np.array(controls, float).reshape(-1, 3)
        return Performance(
            onset_s=note[:, 0],
            offset_s=note[:, 1],
            pitch=note[:, 2].astype(np.uint8),
            velocity=note[:, 3].astype(np.uint8),
            control_s=control[:, 0],
            control_number=control[:, 1].astype(np.uint8),
            control_value=control[:, 2].astype(np.uint8),
        )

    return perform


@pytest.fixture(scope="session")
def piano() -> HousePiano:
    """The model that is part of the package."""
    return HousePiano(read_model(PACKAGED_DIR / DEFAULT_MODEL))
