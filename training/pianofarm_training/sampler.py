"""Plays a performance from the recordings themselves: what a model is measured against. Learns nothing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_worker.synth.house.score import make_score

#: Gain is worked out this often, in samples, and joined by straight lines.
_STEP = 256


class Sampler:
    """The recordings as an instrument: nearest key, resampled to pitch; nearest layer, unscaled; a model's dampers."""

    def __init__(self, samples: SampleSet, sample_rate_hz: int, *, max_note_s: float = 20.0) -> None:
        """Take the recordings; they are read as they are played.

        Args:
            samples: the recordings.
            sample_rate_hz: of what is played.
            max_note_s: longest part of a note.
        """
        self._samples, self._rate_hz, self._max_note_s = samples, sample_rate_hz, max_note_s
        self._velocities = np.array(samples.velocities)
        self._note = lru_cache(maxsize=256)(self._read)

    def render(self, performance: Performance, *, tail_s: float = 2.0) -> NDArray[np.float32]:
        """Play a performance.

        Args:
            performance: notes and pedals.
            tail_s: how much longer than the performance.

        Returns:
            [n_samples, 2] float32 at the recordings' own level.
        """
        score = make_score(performance, None)
        sound = np.zeros((int((score.end_s + tail_s) * self._rate_hz), 2), np.float32)
        for index, (onset_s, pitch, velocity) in enumerate(
            zip(score.onset_s, score.pitch, score.velocity, strict=True)
        ):
            layer = int(np.abs(self._velocities - velocity).argmin())
            note = self._note(int(pitch), layer)
            at = round(float(onset_s) * self._rate_hz)
            note = note[: len(sound) - at]
            steps = np.arange(0, len(note) + _STEP, _STEP)
            times_s = onset_s + steps / self._rate_hz
            kept = np.exp(-score.damping(np.array([index]), times_s[None], score.sustain.at(times_s)[None])[0])
            n_heard = min(len(note), int((kept > 1e-5).sum()) * _STEP)
            gain = np.interp(np.arange(n_heard), steps, kept).astype(np.float32)
            sound[at : at + n_heard] += note[:n_heard] * gain[:, None]
        return sound

    def _read(self, pitch: int, layer: int) -> NDArray[np.float32]:
        """A key's note from the nearest recorded key."""
        import soxr

        recorded = self._samples.nearest_pitch(pitch)
        note = read_note(self._samples.files[recorded, layer], self._rate_hz, self._max_note_s)
        if recorded == pitch:
            return note
        played_rate_hz = self._rate_hz * 2 ** ((pitch - recorded) / 12)
        return np.asarray(soxr.resample(note, played_rate_hz, self._rate_hz, quality="HQ"), np.float32)
