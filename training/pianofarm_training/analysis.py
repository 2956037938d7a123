"""All recordings of a key -> levels of its partials and of its noise over time, with what could be heard of them.

One `KeyAnalysis` a key, cached as an .npz file. Nothing is fitted here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pianofarm_training import tuning as tuning_of
from pianofarm_training.partials import PartialAnalyser
from pianofarm_training.residual import band_densities
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.grains import advance, make_basis, overlap
from pianofarm_worker.synth.house.layout import RISE_HOPS, BandLayout, Layout

#: A partial counts as heard when it is this far above what noise alone would give, and this near to the note's peak.
ABOVE_NOISE_DB = 5.0
BELOW_PEAK_DB = 80.0

#: Noise counts as the note's own when it is this far above the recording's floor.
ABOVE_FLOOR_DB = 3.0

#: Partials are analysed for this long, the noise for the shorter time.
LONGEST_S = 16.0
NOISE_S = 4.0

#: Raised when the analysis changes: results of another version are not read.
VERSION = 2

_SILENCE = 1e-12


@dataclass(frozen=True)
class KeyAnalysis:
    """What the recordings of one key hold. Axes: channel, layer (softest first), partial or band, frame."""

    pitch: int
    f0_hz: float
    inharmonicity: float
    offset_hz: NDArray[np.float32]  #: [n_partials], measured minus law
    phase: NDArray[np.float32]  #: [2, n_partials], radians at the onset
    rise_s: float
    level_db: NDArray[np.float32]  #: [2, n_layers, n_partials, n_frames], dB full scale
    heard: NDArray[np.bool_]  #: the same shape
    noise_db: NDArray[np.float32]  #: [2, n_layers, n_bands, n_noise_frames], dB full scale^2 per Hz
    noise_heard: NDArray[np.bool_]  #: the same shape

    def save(self, path: Path) -> None:
        """Write to an .npz file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(**{name: (file[name] if file[name].ndim else file[name].item()) for name in file.files})


def partial_frames(layout: Layout, longest_s: float = LONGEST_S) -> NDArray[np.int_]:
    """Frame numbers at which levels are kept: even in log(t + 50 ms), every frame at first."""
    hop_s = layout.hop / layout.sample_rate_hz
    steps = np.arange(0, np.log1p(longest_s / 0.05), 0.03)
    return np.unique(np.round(0.05 * np.expm1(steps) / hop_s).astype(int))


def noise_groups(bands: BandLayout, sample_rate_hz: int) -> list[NDArray[np.int_]]:
    """Groups of noise frames whose powers are averaged: single ones at first, then even in log(t + 50 ms)."""
    hop_s = bands.hop / sample_rate_hz
    edges = np.unique(np.round(0.05 * np.expm1(np.arange(0, np.log1p(NOISE_S / 0.05), 0.08)) / hop_s).astype(int))
    return [np.arange(low, high) for low, high in itertools.pairwise(edges)]


def noise_frames_s(layout: Layout) -> NDArray[np.float64]:
    """Middle of each noise group after the onset. [n_noise_frames]"""
    hop_s = layout.bands.hop / layout.sample_rate_hz
    return np.array([group.mean() * hop_s for group in noise_groups(layout.bands, layout.sample_rate_hz)])


def analyse_key(samples: SampleSet, layout: Layout, pitch: int) -> KeyAnalysis:
    """Analyse every layer of one recorded key."""
    rate_hz = layout.sample_rate_hz
    layers = sorted(layer for recorded, layer in samples.files if recorded == pitch)
    notes = [read_note(samples.files[pitch, layer], rate_hz, 30.0) for layer in layers]
    tuning = tuning_of.measure(notes[-7::2], pitch, rate_hz)
    law_hz = tuning.partials_hz(tuning_of.count_partials(pitch, tuning))
    frequency_hz = law_hz + _offsets_hz(notes[-7::2], law_hz, layout)
    analyser = PartialAnalyser(frequency_hz, rate_hz)
    kept = partial_frames(layout)
    n_dense = int(NOISE_S * rate_hz / layout.hop)
    rise_s = _rise_s(notes[-7::2], analyser, layout)

    level_db = np.full((2, len(notes), len(frequency_hz), len(kept)), -240.0, np.float32)
    in_file = np.zeros((len(notes), len(kept)), bool)
    n_groups = len(noise_groups(layout.bands, rate_hz))
    noise_db = np.full((2, len(notes), layout.bands.n_bands, n_groups), -240.0, np.float32)
    floor_db = np.full((2, len(notes), layout.bands.n_bands), -240.0, np.float32)
    start = np.zeros((2, len(notes), len(frequency_hz)), np.complex64)
    for index, note in enumerate(notes):
        in_file[index] = kept * layout.hop < len(note) - analyser.n_window
        for channel in range(2):
            sound = np.ascontiguousarray(note[:, channel])
            dense, residual = split(sound, analyser, layout, n_dense, rise_s)
            found = analyser.amplitudes(sound, kept * layout.hop)
            level_db[channel, index] = 20 * np.log10(np.abs(found).T + _SILENCE)
            start[channel, index] = dense[0]
            noise_db[channel, index] = noise_levels_db(residual, layout)
            tail = sound[-int(0.25 * rate_hz) :].copy()
            floor_db[channel, index] = 10 * np.log10(_bands(tail, layout).mean(axis=0) + _SILENCE**2)

    peak_db = level_db.max(axis=(2, 3), keepdims=True)
    heard = (level_db > peak_db - BELOW_PEAK_DB) & in_file[None, :, None, :]
    heard &= (
        level_db
        > _noise_at(noise_db, frequency_hz, kept, layout) + 10 * np.log10(6 / analyser.window_s) + ABOVE_NOISE_DB
    )
    noise_heard = noise_db > floor_db[..., None] + ABOVE_FLOOR_DB
    noise_heard &= noise_db > noise_db.max(axis=(2, 3), keepdims=True) - BELOW_PEAK_DB
    return KeyAnalysis(
        pitch=pitch,
        f0_hz=tuning.f0_hz,
        inharmonicity=tuning.inharmonicity,
        offset_hz=(frequency_hz - law_hz).astype(np.float32),
        phase=_phases(start),
        rise_s=rise_s,
        level_db=level_db,
        heard=heard,
        noise_db=noise_db,
        noise_heard=noise_heard,
    )


def _offsets_hz(notes: list[NDArray[np.float32]], law_hz: NDArray[np.float64], layout: Layout) -> NDArray[np.float64]:
    """How far each partial is from the law, from the drift of its phase over the first seconds.

    Where the drift is not steady (weak or wildly beating partials) or beyond eight cents, the law stands.
    """
    analyser = PartialAnalyser(law_hz, layout.sample_rate_hz)
    frame_at = np.arange(8, int(1.5 * layout.sample_rate_hz / layout.hop)) * layout.hop
    step = np.zeros(len(law_hz), complex)
    total = np.zeros(len(law_hz))
    for note in notes:
        frames = frame_at[frame_at < len(note) - analyser.n_window]
        for channel in range(2):
            found = analyser.amplitudes(np.ascontiguousarray(note[:, channel]), frames)
            step += (found[1:] * found[:-1].conj()).sum(axis=0)
            total += np.abs(found[1:] * found[:-1]).sum(axis=0)
    drift_hz = np.angle(step) / (2 * np.pi) * layout.sample_rate_hz / layout.hop
    cents = 1200 * np.log2(np.maximum(1 + drift_hz / law_hz, 1e-3))
    steady = (np.abs(step) > 0.7 * total) & (np.abs(cents) < 8.0)
    return np.where(steady, drift_hz, 0.0)


def split(
    sound: NDArray[np.float32], analyser: PartialAnalyser, layout: Layout, n_frames: int, rise_s: float
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Amplitudes of the first frames, demodulated, and what is left of the sound without them."""
    n_frames = min(n_frames, (len(sound) - analyser.n_window) // layout.hop)
    amplitude = analyser.amplitudes(sound, np.arange(n_frames) * layout.hop)
    turned = advance(amplitude, analyser.frequency_hz, layout.sample_rate_hz, layout.hop)
    basis = make_basis(analyser.frequency_hz, layout.sample_rate_hz, layout.hop)
    model = overlap(np.ascontiguousarray(turned.real), np.ascontiguousarray(turned.imag), basis)
    rise = layout.rise(rise_s)[: len(model)]
    model[: len(rise)] *= rise
    return amplitude, sound[: model.size] - model.ravel()


def _rise_s(notes: list[NDArray[np.float32]], analyser: PartialAnalyser, layout: Layout) -> float:
    """The rise time whose resynthesis leaves least of the first hops."""
    candidates = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024)
    left = [
        sum(
            float((split(np.ascontiguousarray(note[:, 0]), analyser, layout, RISE_HOPS + 1, rise_s)[1] ** 2).sum())
            / (float((note[: RISE_HOPS * layout.hop, 0] ** 2).sum()) + 1e-9)
            for note in notes
        )
        for rise_s in candidates
    ]
    return candidates[int(np.argmin(left))]


def _bands(sound: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    bands = layout.bands
    return band_densities(sound, layout.sample_rate_hz, bands.n_bands, bands.window, bands.hop)


def noise_levels_db(residual: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Mean density of each group of frames. [n_bands, n_noise_frames]"""
    density = _bands(residual, layout)
    groups = noise_groups(layout.bands, layout.sample_rate_hz)
    means = [density[np.minimum(group, len(density) - 1)].mean(axis=0) for group in groups]
    return (10 * np.log10(np.stack(means, axis=1) + _SILENCE**2)).astype(np.float32)


def _noise_at(
    noise_db: NDArray[np.float32], frequency_hz: NDArray[np.float64], kept: NDArray[np.int_], layout: Layout
) -> NDArray[np.float32]:
    """Noise density at each partial's frequency and frame; after the noise's last frame, that frame's."""
    centres_hz = band_centres_hz(layout.bands.n_bands, layout.sample_rate_hz)
    band = np.abs(centres_hz[None, :] - frequency_hz[:, None]).argmin(axis=1)
    times_s = kept * layout.hop / layout.sample_rate_hz
    frame = np.abs(noise_frames_s(layout)[None, :] - times_s[:, None]).argmin(axis=1)
    return noise_db[:, :, band][..., frame]


def _phases(start: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Phases at the onset: one loud layer's on the left, the layers' mean difference to the right. [2, n_partials]"""
    left = np.angle(start[0, -min(4, start.shape[1])])
    difference = np.angle((start[1] * start[0].conj() / (np.abs(start[0]) ** 2 + _SILENCE)).sum(axis=0))
    return np.stack([left, left + difference]).astype(np.float32)


def analyse(
    samples: SampleSet, layout: Layout, folder: Path, *, n_processes: int = 1, report: Callable[[], None] | None = None
) -> list[KeyAnalysis]:
    """Analyse every recorded key, or read what an earlier run left.

    Args:
        samples: the recordings.
        layout: of the model to be.
        folder: where the results are kept, one file a key.
        n_processes: keys analysed at a time.
        report: called when a key is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [pitch for pitch in samples.pitches if not (folder / f"{pitch}-v{VERSION}.npz").is_file()]
    work = partial(_analyse_to, samples, layout, folder)
    with ExitStack() as pools:
        several = n_processes > 1 and len(todo) > 1
        pool = (
            pools.enter_context(ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"))) if several else None
        )
        for _ in map(work, todo) if pool is None else pool.map(work, todo):
            if report is not None:
                report()
    return [KeyAnalysis.read(folder / f"{pitch}-v{VERSION}.npz") for pitch in samples.pitches]


def _analyse_to(samples: SampleSet, layout: Layout, folder: Path, pitch: int) -> None:
    partial_path = folder / f"{pitch}.part.npz"
    analyse_key(samples, layout, pitch).save(partial_path)
    partial_path.rename(folder / f"{pitch}-v{VERSION}.npz")
