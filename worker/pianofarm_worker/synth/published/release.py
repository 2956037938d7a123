"""How long a voice keeps its pitch after the key is released: the note goes on sounding while it dies away. No audio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.long_arrays import let_go

#: Frames looked at at a time.
_BLOCK_FRAMES = 10_000


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
    extended = np.zeros(pitch.shape, np.uint8)
    # Of the frame before: the last pitch of each voice, and the frame that it was in.
    held, last = np.zeros(pitch.shape[1], np.uint8), np.full(pitch.shape[1], -1, np.int32)
    for start in range(0, len(pitch), _BLOCK_FRAMES):
        part = pitch[start : start + _BLOCK_FRAMES].astype(np.uint8)
        frame = np.arange(start, start + len(part), dtype=np.int32)[:, None]
        active = np.where(part > 0, frame, np.int32(-1))
        np.maximum(active[0], last, out=active[0])
        np.maximum.accumulate(active, axis=0, out=active)
        found = np.take_along_axis(part, np.maximum(active - start, 0), axis=0)
        found = np.where(active < start, held, found)
        np.copyto(extended[start : start + len(part)], found, where=(active >= 0) & (frame - active <= n_release))
        held, last = found[-1], active[-1]
        let_go(pitch)
    return extended
