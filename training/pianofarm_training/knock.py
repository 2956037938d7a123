"""What partials leave of onsets -> modes that all keys share, how each key sets them going, and the noise that remains.

Nothing is descended on here: the modes by ESPRIT (Roy and Kailath, IEEE Trans. ASSP 37, 1989) over the residuals of many keys at
once, amplitudes by least squares, the answer to velocity as a cubic in dB that all keys share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.analysis import NOISE_S, KeyAnalysis, noise_levels_db, split
from pianofarm_training.partials import PartialAnalyser
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_training.tuning import Tuning
from pianofarm_worker.synth.house.knock import FADE_IN_S, KNOCK_S, N_GROUPS, groups, mode_sounds
from pianofarm_worker.synth.house.layout import Layout

#: Raised when the analysis changes: results of another version are not read.
VERSION = 1

#: Modes are looked for at this rate, hence below half of it.
_SEARCH_RATE_HZ = 8_000

#: Length of the windows whose covariance ESPRIT decomposes, and how many complex modes it may find.
_SEARCH_WINDOW, _N_POLES = 400, 160

#: A mode's frequency and decay (nepers a second; T60 from 17 ms to 1.4 s) lie between these.
_FREQUENCIES_HZ, _RATES = (30.0, 3900.0), (5.0, 400.0)

#: Regularisation of the least squares, relative to the diagonal.
_RIDGE = 1e-3

#: How much louder a velocity step is where one layer alone was recorded, dB: 23.5 dB over sixteen layers (Salamander Grand).
_TYPICAL_SLOPE_DB = 0.19


@dataclass(frozen=True)
class Knock:
    """The model's share, as the renderer wants it, and the noise that remains."""

    parameters: dict[str, NDArray[np.float32]]
    noise_db: list[NDArray[np.float32]]  #: a key each, as `KeyAnalysis.noise_db`, with the knocks taken out


def measure(
    samples: SampleSet, analyses: Sequence[KeyAnalysis], layout: Layout, held_out: Sequence[int], folder: Path
) -> Knock:
    """Measure the knocks of all keys, or read what an earlier run left.

    Args:
        samples: the recordings.
        analyses: of all recorded keys and layers.
        layout: of the model.
        held_out: layers that no parameter may be learned from.
        folder: where the result is kept.
    """
    run = hashlib.sha256(repr((VERSION, tuple(held_out), samples.pitches, len(samples.velocities), layout)).encode())
    path = folder / f"knock-{run.hexdigest()[:12]}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        knock = _measure(samples, analyses, layout, held_out)
        unfinished = path.with_suffix(".part.npz")
        noise = {f"noise.{key}": noise_db for key, noise_db in enumerate(knock.noise_db)}
        np.savez(unfinished, **knock.parameters, **noise)  # type: ignore[arg-type]  # names of arrays, not options
        unfinished.rename(path)
    with np.load(path) as file:
        return Knock(
            {name: file[name] for name in file.files if name.startswith("knock.")},
            [file[f"noise.{key}"] for key in range(len(analyses))],
        )


def without_knocks(analyses: Sequence[KeyAnalysis], knock: Knock) -> list[KeyAnalysis]:
    """The analyses with the noise that the knocks leave."""
    return [replace(a, noise_db=noise_db) for a, noise_db in zip(analyses, knock.noise_db, strict=True)]


def _measure(samples: SampleSet, analyses: Sequence[KeyAnalysis], layout: Layout, held_out: Sequence[int]) -> Knock:
    learned = [layer for layer in range(len(samples.velocities)) if layer not in held_out]
    treble = analyses[len(analyses) // 2 :]
    onsets = [
        sound
        for analysis in treble
        for layer in learned[-3:]
        for sound in _residuals(samples, analysis, layer, layout, KNOCK_S + 0.05)
    ]
    frequency_hz, rate = shared_modes(onsets, layout.sample_rate_hz)
    real, imaginary = mode_sounds(frequency_hz, rate, layout.sample_rate_hz)
    sounds = np.concatenate([real, imaginary])
    normal = (sounds @ sounds.T).astype(float)
    ridged = normal.copy()
    ridged[np.diag_indices_from(ridged)] *= 1 + _RIDGE
    projection = np.linalg.solve(ridged, sounds).astype(np.float32)

    n, n_modes, n_layers = sounds.shape[1], len(frequency_hz), len(samples.velocities)
    found = np.zeros((len(analyses), n_layers, 2, 2 * n_modes), np.float32)
    noise = []
    for key, analysis in enumerate(analyses):
        noise_db = np.empty_like(analysis.noise_db)
        for layer in range(n_layers):
            for channel, left in enumerate(_residuals(samples, analysis, layer, layout, NOISE_S)):
                part = left[:n]
                n_fade = int(FADE_IN_S * layout.sample_rate_hz)
                faded = part.copy()
                faded[:n_fade] *= np.sin(0.5 * np.pi * np.arange(n_fade) / n_fade).astype(np.float32) ** 2
                amplitude = projection[:, : len(part)] @ faded
                found[key, layer, channel] = amplitude
                left[:n] = faded - (amplitude @ sounds)[: len(part)]
                noise_db[channel, layer] = noise_levels_db(left, layout)
        noise.append(noise_db)
    if not n_modes:
        return Knock({}, noise)
    amplitude, gain_db = _by_velocity(found, normal, groups(frequency_hz), np.array(samples.velocities), learned)
    parameters = {
        "knock.frequency_hz": frequency_hz.astype(np.float32),
        "knock.rate": rate.astype(np.float32),
        "knock.amplitude": amplitude,
        "knock.gain_db": gain_db,
    }
    return Knock(parameters, noise)


def shared_modes(
    onsets: Sequence[NDArray[np.float32]], sample_rate_hz: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies and decay rates that many sounds share, by ESPRIT on the sum of their covariances.

    Args:
        onsets: [n_samples] each, what partials left.
        sample_rate_hz: of the sounds.

    Returns:
        Frequencies in Hz, rising, and rates in nepers a second; [n_modes] both.
    """
    import soxr

    covariance = np.zeros((_SEARCH_WINDOW, _SEARCH_WINDOW))
    for onset in onsets:
        slow = soxr.resample(onset[int(FADE_IN_S * sample_rate_hz) :], sample_rate_hz, _SEARCH_RATE_HZ, quality="HQ")
        if len(slow) <= _SEARCH_WINDOW:
            continue
        slow = slow.astype(float) / (np.sqrt((slow.astype(float) ** 2).sum()) + 1e-12)
        windows = np.lib.stride_tricks.sliding_window_view(slow, _SEARCH_WINDOW)
        covariance += windows.T @ windows
    _, vectors = np.linalg.eigh(covariance)
    signal = vectors[:, -_N_POLES:]
    poles = np.linalg.eigvals(np.linalg.lstsq(signal[:-1], signal[1:], rcond=None)[0])
    frequency_hz = np.angle(poles) * _SEARCH_RATE_HZ / (2 * np.pi)
    rate = -np.log(np.abs(poles) + 1e-12) * _SEARCH_RATE_HZ
    kept = (frequency_hz > _FREQUENCIES_HZ[0]) & (frequency_hz < _FREQUENCIES_HZ[1])
    kept &= (rate > _RATES[0]) & (rate < _RATES[1])
    order = np.argsort(frequency_hz[kept])
    return frequency_hz[kept][order], rate[kept][order]


def _residuals(
    samples: SampleSet, analysis: KeyAnalysis, layer: int, layout: Layout, seconds: float
) -> list[NDArray[np.float32]]:
    """What the partials leave of one recording's beginning, a channel each."""
    law_hz = Tuning(analysis.f0_hz, analysis.inharmonicity).partials_hz(len(analysis.offset_hz))
    analyser = PartialAnalyser(law_hz + analysis.offset_hz, layout.sample_rate_hz)
    layers = sorted(index for pitch, index in samples.files if pitch == analysis.pitch)
    note = read_note(samples.files[analysis.pitch, layers[layer]], layout.sample_rate_hz, seconds + 0.5)
    n_frames = int(seconds * layout.sample_rate_hz / layout.hop)
    return [
        split(np.ascontiguousarray(note[:, channel]), analyser, layout, n_frames, analysis.rise_s)[1]
        for channel in range(2)
    ]


def _by_velocity(
    found: NDArray[np.float32],
    normal: NDArray[np.float64],
    group: NDArray[np.int_],
    velocities: NDArray[np.float64],
    learned: Sequence[int],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One loud stroke's modes for every key, and how loud they are at every velocity.

    Args:
        found: [n_keys, n_layers, 2, 2 n_modes], least-squares amplitudes, real parts first.
        normal: [2 n_modes, 2 n_modes], products of the modes' sounds.
        group: [n_modes].
        velocities: [n_layers].
        learned: layers that may be learned from.

    Returns:
        `knock.amplitude` and `knock.gain_db` (see `house.knock.Knocks`).
    """
    n_modes = len(group)
    amplitude = np.zeros((len(found), 2, n_modes, 2), np.float32)
    gain_db = np.zeros((N_GROUPS, 128), np.float32)
    reference = learned[-2:][0]
    at = velocities[list(learned)] / 127
    steps = np.clip(np.arange(128) / 127, at.min(), at.max())
    for number in range(N_GROUPS):
        own = np.flatnonzero(group == number)
        both = np.concatenate([own, own + n_modes])
        part = found[..., both].astype(float)
        energy = np.einsum("klci,ij,klcj->kl", part, normal[np.ix_(both, both)], part)
        level_db = 10 * np.log10(np.maximum(energy, 0.0) + 1e-16)
        mean_db = (level_db[:, learned] - level_db[:, learned].mean(axis=1, keepdims=True)).mean(axis=0)
        if len(learned) > 1:
            cubic = np.polyfit(at, mean_db, min(3, len(learned) - 1))
            curve_db = np.maximum.accumulate(np.polyval(cubic, steps))
        else:
            curve_db = np.zeros(128)
        # Beyond the softest and the loudest layer, and everywhere where there is one alone: as pianos usually do.
        curve_db = curve_db + _TYPICAL_SLOPE_DB * (np.arange(128) - 127 * steps)
        gain_db[number] = curve_db - curve_db[127]
        at_layers_db = np.interp(velocities[list(learned)], np.arange(128), gain_db[number])
        loudest_db = (level_db[:, learned] - at_layers_db).mean(axis=1)
        scale = 10 ** ((loudest_db - level_db[:, reference]) / 20)
        stroke = found[:, reference] * scale[:, None, None]
        amplitude[:, :, own, 0], amplitude[:, :, own, 1] = stroke[..., own], stroke[..., own + n_modes]
    return amplitude, gain_db
