"""What analysis and fit find in one recorded key, step by step, gathered for `note_picture`. Draws nothing, trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_training import knock as knock_of
from pianofarm_training import tuning as tuning_of
from pianofarm_training.analysis import KeyAnalysis, analyse, noise_frames_s, partial_frames, split
from pianofarm_training.partials import PartialAnalyser
from pianofarm_training.releases import release_levels
from pianofarm_training.samples import SampleSet, aligned
from pianofarm_training.separation import Separated, separate
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.knock import Knocks
from pianofarm_worker.synth.house.layout import Layout

Float32Array = NDArray[np.float32]

#: Length of the residual that is shown.
RESIDUAL_S = 0.2


@dataclass(frozen=True)
class Steps:
    """One key, one layer, the left channel where there is a choice. Levels are dB full scale."""

    pitch: int
    layer: int  #: index, softest first
    held_out: tuple[int, ...]
    velocities: tuple[float, ...]
    rate_hz: int
    raw: Float32Array  #: [n_samples], as recorded
    high_passed: Float32Array  #: the same length
    onset: int  #: sample it is cut at
    spectrum_db: NDArray[np.float64]  #: mean of the loud layers, above its own floor
    bin_hz: float
    law: tuning_of.Tuning
    peak_k: NDArray[np.int_]  #: numbers of the partials whose peaks were found
    peak_hz: NDArray[np.float64]
    offset_hz: Float32Array  #: [n_partials], from the phases; what the model is tuned by
    time_s: Float32Array  #: [n_frames], of levels
    level_db: Float32Array  #: [n_layers, n_partials, n_frames], measured
    heard: NDArray[np.bool_]  #: the same shape
    separated: Separated  #: E of the layers learned from, given the network's G
    envelope_db: Float32Array  #: [n_partials, n_frames], E of the network
    gain_db: Float32Array  #: [n_partials, 128], G of the network, by velocity
    residual: Float32Array  #: [n_samples], what the partials leave
    knock: Float32Array  #: [n_samples], the model's, at this layer's velocity
    bands_hz: NDArray[np.float64]  #: [n_bands], middles
    noise_s: Float32Array  #: [n_noise_frames]
    noise_db: Float32Array  #: [n_bands, n_noise_frames], measured, the knock taken out, per Hz
    predicted_noise_db: Float32Array  #: the same shape, the room's own noise with it
    release_s: Float32Array  #: [n_release_frames]; empty where no release was recorded
    release_db: Float32Array  #: [n_bands, n_release_frames], measured, per Hz
    predicted_release_db: Float32Array  #: the same shape


def steps_of(
    samples: SampleSet,
    parameters: Mapping[str, Float32Array],
    analysis_dir: Path,
    held_out: tuple[int, ...],
    pitch: int,
    layer: int,
) -> Steps:
    """Gather the steps of one recorded key.

    Args:
        samples: the recordings.
        parameters: of the model.
        analysis_dir: where the analysis is kept; what is missing in it is analysed.
        held_out: layers that the model was not trained on.
        pitch: a recorded key.
        layer: index of the layer to show, softest first.
    """
    layout = Layout()
    rate_hz, key = layout.sample_rate_hz, samples.pitches.index(pitch)
    analyses = analyse(samples, layout, analysis_dir)
    found = analyses[key]
    raw, high_passed, onset = aligned(samples.files[pitch, layer], rate_hz)
    law = tuning_of.Tuning(found.f0_hz, found.inharmonicity)
    loud = [
        cut[start:] for _, cut, start in (aligned(path, rate_hz) for path in _files(samples, pitch)[-7::2])
    ]  # the layers that `analyse_key` tunes by
    spectrum_db, bin_hz = tuning_of.spectrum(loud, pitch, rate_hz)
    peak_k, peak_hz = tuning_of.peaks(spectrum_db, bin_hz, law, len(found.offset_hz))

    rows = _rows(key, law.partials_hz(len(found.offset_hz)) + found.offset_hz)
    gain_db = np.asarray(network.gain_db(parameters, "partial", rows, np.arange(128.0), np), np.float32)
    learned = [index for index in range(len(samples.velocities)) if index not in held_out]
    at = np.round([samples.velocities[index] for index in learned]).astype(int)
    time_s = (partial_frames(layout) * layout.hop / rate_hz).astype(np.float32)

    bands_hz = band_centres_hz(layout.bands.n_bands, rate_hz)
    noise_s = noise_frames_s(layout).astype(np.float32)
    velocity = samples.velocities[layer]
    noise = _noise_db(parameters, "noise", key, bands_hz, noise_s)
    noise += network.gain_db(parameters, "noise", _rows(key, bands_hz), np.array([velocity]), np)
    tone_db = parameters.get("hiss.density_db", np.full((2, len(bands_hz)), -200.0))[0]
    release_s, release_db = np.zeros(0, np.float32), np.zeros((len(bands_hz), 0), np.float32)
    predicted_release_db = release_db
    if samples.releases and "release.time.0.kernel" in parameters:
        (level_db,), release_s = release_levels([samples.releases[pitch - 21]], layout)
        release_db = level_db[0]
        predicted_release_db = _noise_db(parameters, "release", pitch - 21, bands_hz, release_s)
    return Steps(
        pitch=pitch,
        layer=layer,
        held_out=held_out,
        velocities=samples.velocities,
        rate_hz=rate_hz,
        raw=raw[:, 0],
        high_passed=high_passed[:, 0],
        onset=onset,
        spectrum_db=spectrum_db,
        bin_hz=bin_hz,
        law=law,
        peak_k=peak_k,
        peak_hz=peak_hz,
        offset_hz=found.offset_hz,
        time_s=time_s,
        level_db=found.level_db[0],
        heard=found.heard[0],
        separated=separate(found.level_db[:, learned], found.heard[:, learned], gain_db[:, at]),
        envelope_db=_partials_db(parameters, rows, time_s),
        gain_db=gain_db,
        residual=_residual(high_passed[onset:, 0], found, layout),
        knock=_knock(parameters, key, round(velocity), rate_hz),
        bands_hz=bands_hz,
        noise_s=noise_s,
        noise_db=knock_of.measure(samples, analyses, layout, held_out, analysis_dir).noise_db[key][0, layer],
        predicted_noise_db=np.asarray(10 * np.log10(10 ** (noise / 10) + 10 ** (tone_db[:, None] / 10)), np.float32),
        release_s=release_s,
        release_db=release_db,
        predicted_release_db=predicted_release_db,
    )


def _files(samples: SampleSet, pitch: int) -> list[Path]:
    """A key's recordings, softest first."""
    return [samples.files[key] for key in sorted(samples.files) if key[0] == pitch]


def _rows(key: int, frequency_hz: NDArray[np.float64]) -> network.Rows:
    n = len(frequency_hz)
    return network.Rows(np.full(n, key), np.arange(n), frequency_hz.astype(np.float32))


def _partials_db(parameters: Mapping[str, Float32Array], rows: network.Rows, time_s: Float32Array) -> Float32Array:
    functions = network.time_functions(parameters, "partial", time_s, np)
    found = network.level_db(network.modes(parameters, "partial", rows, np), functions, time_s, np)
    return np.asarray(found[:, 0], np.float32)


def _noise_db(
    parameters: Mapping[str, Float32Array], kind: str, key: int, bands_hz: NDArray[np.float64], time_s: Float32Array
) -> Float32Array:
    functions = network.time_functions(parameters, kind, time_s, np)
    found = network.noise_db(network.modes(parameters, kind, _rows(key, bands_hz), np), functions, time_s, np)
    return np.asarray(found[:, 0], np.float32)


def _residual(note: Float32Array, found: KeyAnalysis, layout: Layout) -> Float32Array:
    law_hz = tuning_of.Tuning(found.f0_hz, found.inharmonicity).partials_hz(len(found.offset_hz))
    analyser = PartialAnalyser(law_hz + found.offset_hz, layout.sample_rate_hz)
    n_frames = int(RESIDUAL_S * layout.sample_rate_hz / layout.hop)
    return split(np.ascontiguousarray(note), analyser, layout, n_frames, found.rise_s)[1]


def _knock(parameters: Mapping[str, Float32Array], key: int, velocity: int, rate_hz: int) -> Float32Array:
    knocks = Knocks(parameters, rate_hz)
    return np.asarray(knocks.gain[velocity] @ knocks.of(key)[0], np.float32)
