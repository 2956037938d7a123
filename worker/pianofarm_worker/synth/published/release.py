"""How long a voice keeps its pitch after the key is released: the note goes on sounding while it dies away. No audio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def extend_pitch(pitch: NDArray[np.floating | np.integer], release_s: float, frame_rate_hz: int) -> NDArray[np.uint8]:
    """Active pitch prolonged by the release: the last pitch of a voice goes on for the release and one frame, then 0.

    Args:
        pitch: [n_frames, n_voices], active MIDI pitch, 0 where no key is down.
        release_s: a weight of the model: 1.0 in dafx22.
        frame_rate_hz: frames a second.

    Returns:
        [n_frames, n_voices], 0..127.
    """
    n_release = int(release_s * frame_rate_hz + 1e-3) + 1
    frame = np.arange(len(pitch), dtype=np.int32)[:, None]
    last_active = np.maximum.accumulate(np.where(pitch > 0, frame, np.int32(-1)), axis=0)
    held = np.take_along_axis(pitch, np.maximum(last_active, 0), axis=0)
    extended: NDArray[np.uint8] = np.where((last_active >= 0) & (frame - last_active <= n_release), held, 0).astype(
        np.uint8
    )
    return extended
