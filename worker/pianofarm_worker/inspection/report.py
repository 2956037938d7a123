"""A rendered file and its MIDI on disk -> what `pianofarm inspect` says and shows. Reads files; writes none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from pianofarm_common.errors import BadOption
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_worker.containers import write_ogg
from pianofarm_worker.inspection.levels import dropped_notes, note_levels_dbfs, rank_correlation
from pianofarm_worker.inspection.page import Inspection, page_of
from pianofarm_worker.loudness import loudness_lufs


@dataclass(frozen=True)
class Findings:
    """What was measured, and the page that shows it."""

    audio_s: float
    shown_s: float  #: how much of it, from its beginning
    sample_rate_hz: int
    channels: int
    peak_dbfs: float
    loudness_lufs: float | None
    notes: int  #: in what is shown
    dropped: int  #: by the model
    measured: int  #: notes with a level
    rank_correlation: float | None  #: of velocities and levels
    page: str


def inspect_file(audio: Path, performance: Performance, model: ModelInfo, *, title: str, at_most_s: float) -> Findings:
    """Look at a rendered file.

    Args:
        audio: the file; any format that libsndfile reads.
        performance: what it was rendered from, from the same beginning.
        model: decides which notes have no voice.
        title: of the page.
        at_most_s: what comes later is left out.

    Raises:
        BadOption: the file is missing, is no audio, or is empty.
    """
    samples, rate_hz, audio_s = _read(audio, at_most_s)
    shown_s = len(samples) / rate_hz
    peak = float(np.abs(samples).max())
    is_dropped = dropped_notes(performance, model)
    levels_dbfs = note_levels_dbfs(samples, rate_hz, performance)
    shown = np.flatnonzero(performance.onset_s < shown_s)
    part = Performance(
        onset_s=performance.onset_s[shown],
        offset_s=np.minimum(performance.offset_s[shown], shown_s),
        pitch=performance.pitch[shown],
        velocity=performance.velocity[shown],
        control_s=np.zeros(0),
        control_number=np.zeros(0, np.uint8),
        control_value=np.zeros(0, np.uint8),
    )
    correlation = rank_correlation(part.velocity, levels_dbfs[shown])
    loudness = loudness_lufs(samples, rate_hz)
    n_dropped, n_measured = int(is_dropped[shown].sum()), int(np.isfinite(levels_dbfs[shown]).sum())
    peak_dbfs = 20 * float(np.log10(max(peak, 1e-10)))
    facts = (
        (
            "length",
            f"{audio_s:.2f} s"
            + (f", of which the first {shown_s:.0f} s are shown" if shown_s < audio_s - 1e-6 else ""),
        ),
        ("format", f"{rate_hz} Hz, {samples.shape[1]} channels; played here as Ogg Vorbis"),
        ("level", f"peak {peak_dbfs:.1f} dBFS, loudness {'none' if loudness is None else f'{loudness:.1f} LUFS'}"),
        ("notes", f"{len(shown)}, {n_dropped} of them dropped by {model.name}, the level of {n_measured} measured"),
        ("velocity and level", "nothing to compare" if correlation is None else f"rank correlation {correlation:.3f}"),
    )
    page = page_of(
        Inspection(
            title,
            facts,
            samples,
            rate_hz,
            part,
            is_dropped[shown],
            levels_dbfs[shown],
            write_ogg(samples, rate_hz),
            "audio/ogg",
        )
    )
    return Findings(
        audio_s,
        shown_s,
        rate_hz,
        samples.shape[1],
        peak_dbfs,
        loudness,
        len(shown),
        n_dropped,
        n_measured,
        correlation,
        page,
    )


def _read(path: Path, at_most_s: float) -> tuple[NDArray[np.float32], int, float]:
    """Samples [n_samples, n_channels] from the beginning, their rate in Hz, and the length of the whole file in seconds."""
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz, n_samples = file.samplerate, file.frames
            samples = file.read(min(n_samples, round(at_most_s * rate_hz)), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise BadOption(f"cannot read {path} as audio: {error}") from None
    if not len(samples):
        raise BadOption(f"{path} holds no samples")
    if not np.isfinite(samples).all():
        raise BadOption(f"{path} holds samples that are no numbers")
    return samples, rate_hz, n_samples / rate_hz
