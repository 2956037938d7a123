"""Audio out: float samples of a model -> the file a user asked for, and its loudness. No synthesis, no storage."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from pianofarm_common.renders import RenderOptions
from pianofarm_worker.containers import FileBytes, write_flac, write_ogg, write_wav
from pianofarm_worker.loudness import loudness_lufs
from pianofarm_worker.synth.dry_wet import mixed
from pianofarm_worker.synth.long_arrays import of_parts, parts
from pianofarm_worker.synth.piano import Rendering

#: What ends up below this against the loudest sample is silence: less than a 16-bit file at full level could hold.
SILENCE_DB = -96.0

#: Peak level given for digital silence, which has none: JSON knows no infinity.
LOWEST_DBFS = -200.0

#: Highest sample peak after loudness normalisation: room for what a player's own resampling adds between the samples.
HIGHEST_DBFS = -1.0

#: Samples looked at at a time when searching the end of the sound.
_SLICE = 1 << 16


@dataclass(frozen=True)
class Encoded:
    """One audio file, and what its sidecar says of it."""

    data: FileBytes
    sha256: str  #: of the data, 64 hex digits
    n_samples: int  #: per channel
    channels: int
    sample_rate_hz: int
    loudness_lufs: float | None  #: integrated loudness (ITU-R BS.1770-4); None: too short or too soft to have one
    peak_dbfs: float  #: of the samples written, before rounding; LOWEST_DBFS for silence

    @property
    def audio_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate_hz

    def parts(self) -> Iterator[memoryview]:
        """The data, some megabytes at a time; those of a long file need not be in memory at once."""
        return _parts_of(self.data)


def encode(samples: NDArray[np.float32], sample_rate_hz: int, options: RenderOptions) -> Encoded:
    """Bring samples to the rate, channels, level and file format asked for; the same samples give the same bytes.

    Args:
        samples: [n_samples, n_channels] float32, full scale -1..1.
        sample_rate_hz: their rate.
        options: `sample_rate_hz`, `channels`, `format`, `sample_format`, `normalize_dbfs` and `normalize_lufs` are
            honoured.

    Raises:
        BadOption: the file format cannot hold it.
    """
    if options.channels == 1:
        samples = with_channels(samples, 1)
    samples = resampled(samples, sample_rate_hz, options.sample_rate_hz or sample_rate_hz)
    sample_rate_hz = options.sample_rate_hz or sample_rate_hz
    samples = with_channels(samples, options.channels or samples.shape[1])
    if options.normalize_lufs is not None:
        ceiling_dbfs = HIGHEST_DBFS if options.normalize_dbfs is None else options.normalize_dbfs
        samples = at_loudness(samples, sample_rate_hz, options.normalize_lufs, ceiling_dbfs=ceiling_dbfs)
    elif options.normalize_dbfs is not None:
        samples = normalized(samples, options.normalize_dbfs)
    match options.format:
        case "wav":
            data = write_wav(samples, sample_rate_hz, options.sample_format)
        case "flac":
            data = write_flac(samples, sample_rate_hz, options.sample_format)
        case "ogg":
            data = write_ogg(samples, sample_rate_hz)
    return Encoded(
        data=data,
        sha256=_sha256(data),
        n_samples=len(samples),
        channels=samples.shape[1],
        sample_rate_hz=sample_rate_hz,
        loudness_lufs=loudness_lufs(samples, sample_rate_hz),
        peak_dbfs=max(LOWEST_DBFS, 20 * math.log10(max(peak(samples), 1e-30))),
    )


def with_room(rendering: Rendering, room: float) -> Rendering:
    """The rendering with this much of its room in the wet sound, 0 .. 2; the dry sound stays.

    It comes before the gates and before what is cut from the end, which are to see what will be heard.
    """
    if room == 1 or rendering.wet.shape != rendering.dry.shape:
        return rendering  # as the model has it; or not fit to ship, as the gates are about to say
    # So is what is not finite.
    with np.errstate(invalid="ignore", over="ignore"):
        wet = of_parts(lambda wet, dry: mixed(wet, dry, room), rendering.wet, rendering.dry)
        return dataclasses.replace(rendering, wet=wet)


def trimmed(rendering: Rendering, *, keep_s: float) -> Rendering:
    """The rendering without the silence at its end, dry and wet cut alike.

    Args:
        rendering: as a model made it.
        keep_s: what must stay, silent or not: the length of the performance.
    """
    loudest = max(peak(rendering.wet), peak(rendering.dry))
    threshold = loudest * 10 ** (SILENCE_DB / 20)
    n_keep = min(math.ceil(keep_s * rendering.sample_rate_hz), len(rendering.wet))
    n_sounding = max(_n_sounding(stem, threshold, n_keep) for stem in (rendering.wet, rendering.dry))
    return dataclasses.replace(rendering, wet=rendering.wet[:n_sounding], dry=rendering.dry[:n_sounding])


def with_channels(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """[n_samples, channels]: mono becomes stereo by doubling (a view), stereo becomes mono by the mean."""
    if channels == samples.shape[1]:
        return samples
    if channels == 1:
        mono: NDArray[np.float32] = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        return mono
    return np.broadcast_to(samples, (len(samples), channels))


def resampled(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """At another rate, by libsoxr at its "very high" quality (passband to 95 %, images below -170 dB)."""
    if from_hz == to_hz:
        return samples
    result: NDArray[np.float32] = soxr.resample(np.ascontiguousarray(samples), from_hz, to_hz, quality="VHQ")
    return result


def normalized(samples: NDArray[np.float32], peak_dbfs: float) -> NDArray[np.float32]:
    """With its loudest sample at this level; silence stays silence."""
    loudest = peak(samples)
    return _times(samples, 10 ** (peak_dbfs / 20) / loudest) if loudest > 0 else samples


def at_loudness(
    samples: NDArray[np.float32], sample_rate_hz: int, target_lufs: float, *, ceiling_dbfs: float
) -> NDArray[np.float32]:
    """At this integrated loudness, or as near below it as the peak level allows: nothing is ever limited or clipped.

    What is too short or too soft to have a loudness stays as it is.
    """
    loudness = loudness_lufs(samples, sample_rate_hz)
    if loudness is None:
        return samples
    gain_db = min(target_lufs - loudness, ceiling_dbfs - 20 * math.log10(peak(samples)))
    return _times(samples, 10 ** (gain_db / 20))


def peak(samples: NDArray[np.float32]) -> float:
    """The largest magnitude, 0 for no samples."""
    return float(np.max([max(part.max(), -part.min()) for part in parts(samples)])) if samples.size else 0.0


def _times(samples: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    return of_parts(lambda part: part * np.float32(gain), samples)


def _sha256(data: FileBytes) -> str:
    digest = hashlib.sha256()
    for part in _parts_of(data):
        digest.update(part)
    return digest.hexdigest()


def _parts_of(data: FileBytes) -> Iterator[memoryview]:
    return (part.data for part in parts(np.frombuffer(data, np.uint8)))


def _n_sounding(samples: NDArray[np.float32], threshold: float, n_keep: int) -> int:
    """How many samples to the last one above the threshold, at least `n_keep`."""
    for end in range(len(samples), n_keep, -_SLICE):
        start = max(end - _SLICE, n_keep)
        loud = np.flatnonzero((np.abs(samples[start:end]) > threshold).any(axis=1))
        if len(loud):
            return start + int(loud[-1]) + 1
    return n_keep
