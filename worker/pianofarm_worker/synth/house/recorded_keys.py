"""The recorded keys as the networks know them: levels, amplitudes and noise over time, each evaluated once. Tunes no other keys.

Levels are those of velocity 127, with what other velocities do to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.key_table import SILENCE_DB, STRIDE, Lasts, in_phases
from pianofarm_worker.synth.house.layout import NOISE_ONSET, SLOW, Layout

Float32Array = NDArray[np.float32]

#: No table is longer.
LONGEST_S = 30.0

_VELOCITIES = np.arange(128, dtype=np.float32)


@dataclass(frozen=True)
class RecordedKey:
    """What the networks say about a recorded key: shared by the keys that are nearest to it."""

    amplitude: NDArray[np.complex64]  #: [2, n_frames, n_partials], demodulated
    later_db: Float32Array
    gain: Float32Array
    noise: Float32Array  #: as of `KeyTable`, as `early_noise`
    early_noise: Float32Array
    noise_later_db: Float32Array  #: [n_noise_frames / STRIDE], loudest band's level from that frame on, falling
    noise_gain: Float32Array

    def lasts(self, gain: Float32Array, noise_gain: Float32Array) -> Lasts:
        """When partials and noise fall silent for good, by velocity.

        Args:
            gain: [128, n_partials or fewer], linear, by velocity.
            noise_gain: [128, n_bands], linear power, by velocity.
        """
        gain_db = 20 * np.log10(gain + np.float32(1e-9))
        loudest_db = np.stack([(stride_db[: gain.shape[1]] + gain_db).max(axis=1) for stride_db in self.later_db])
        n_frames = (loudest_db > SILENCE_DB).sum(axis=0) * STRIDE
        noise_louder_db = 10 * np.log10(noise_gain.max(axis=1) + 1e-9)
        n_noise_frames = (self.noise_later_db[:, None] + noise_louder_db > SILENCE_DB).sum(axis=0) * STRIDE
        return Lasts(
            np.clip(n_frames, 2, self.amplitude.shape[1]).tolist(),
            np.clip(n_noise_frames, 1, SLOW * self.noise.shape[1]).tolist(),
            loudest_db[0].tolist(),
        )


class RecordedKeys:
    """All of them, by number, lowest first; evaluated as they are needed."""

    def __init__(self, parameters: Mapping[str, Float32Array], layout: Layout) -> None:
        """Take the weights; nothing is evaluated yet.

        Args:
            parameters: of the networks; `tuning.pitch`, `.frequency_hz`, `.n_partials` and `.phase` of each recorded key.
            layout: of the model.

        Raises:
            KeyError: one of the parameters that say which keys there are is missing.
        """
        self._parameters, self._layout = parameters, layout
        self.pitch = parameters["tuning.pitch"].astype(int)  #: [n_keys], MIDI pitch
        self.n_partials: list[int] = parameters["tuning.n_partials"].astype(int).tolist()
        self._known: dict[int, RecordedKey] = {}
        self._loudness: dict[int, float] = {}

    def __getitem__(self, key: int) -> RecordedKey:
        """The key of a number."""
        if key not in self._known:
            self._known[key] = self._evaluate(key)
        return self._known[key]

    def nearest(self, pitch: int) -> int:
        """Number of the key that is nearest to a pitch, of two the lower."""
        return int(np.abs(self.pitch - pitch).argmin())

    def loudness_db(self, key: int) -> float:
        """Level of the first third of a second at velocity 80, dB full scale."""
        if key not in self._loudness:
            rows = self._rows(key)
            time_s = np.linspace(0.01, 0.33, 17, dtype=np.float32)
            functions = network.time_functions(self._parameters, "partial", time_s, np)
            level_db = network.level_db(network.modes(self._parameters, "partial", rows, np), functions, time_s, np)
            level_db = (
                level_db
                + network.gain_db(self._parameters, "partial", rows, np.array([80.0], np.float32), np)[:, :, None]
            )
            self._loudness[key] = float(10 * np.log10((10 ** (level_db / 10)).sum(axis=0).mean()))
        return self._loudness[key]

    def _rows(self, key: int) -> network.Rows:
        """The partials of a recorded key."""
        n = self.n_partials[key]
        return network.Rows(np.full(n, key), np.arange(n), self._parameters["tuning.frequency_hz"][key, :n])

    def _evaluate(self, key: int) -> RecordedKey:
        parameters, layout = self._parameters, self._layout
        rows = self._rows(key)
        n = len(rows.index)
        found = _single(network.modes(parameters, "partial", rows, np))
        hop_s = layout.hop / layout.sample_rate_hz
        # How long, and how many partials: looked at once a stride.
        stride_s = (np.arange(int(LONGEST_S / hop_s / STRIDE)) * STRIDE * hop_s).astype(np.float32)
        functions = network.time_functions(parameters, "partial", stride_s, np)
        levels_db = network.level_db(found, functions, stride_s, np).max(axis=1)
        later_db = np.maximum.accumulate(levels_db[:, ::-1], axis=1)[:, ::-1]
        n_strides = max(1, int(np.searchsorted(-later_db.max(axis=0), -SILENCE_DB)))
        time_s = np.arange(n_strides * STRIDE + 1, dtype=np.float32) * np.float32(hop_s)
        functions = network.time_functions(parameters, "partial", time_s, np)
        amplitude = network.amplitude(found, functions, time_s, np)
        phase = parameters["tuning.phase"][key, :, :n].T - np.angle(amplitude[:, :, 0])
        amplitude = amplitude * np.exp(1j * phase)[:, :, None]
        gain_db = network.gain_db(parameters, "partial", rows, _VELOCITIES, np)
        noise, noise_later_db, noise_gain = self._noise(key)
        return RecordedKey(
            amplitude=np.ascontiguousarray(amplitude.transpose(1, 2, 0), np.complex64),
            later_db=np.ascontiguousarray(later_db[:, :n_strides].T, np.float32),
            gain=np.ascontiguousarray(10 ** (gain_db.T / 20), np.float32),
            noise=in_phases(noise),
            early_noise=noise[: NOISE_ONSET + 2 * SLOW].copy(),
            noise_later_db=noise_later_db,
            noise_gain=noise_gain,
        )

    def _noise(self, key: int) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Noise over time at velocity 127 [n_frames, 2, n_bands], how loud it still gets, and its gain by velocity."""
        parameters, layout = self._parameters, self._layout
        bands = layout.bands
        centres_hz = band_centres_hz(bands.n_bands, layout.sample_rate_hz).astype(np.float32)
        rows = network.Rows(np.full(bands.n_bands, key), np.arange(bands.n_bands), centres_hz)
        hop_s = bands.hop / layout.sample_rate_hz
        # Noise levels change slowly: evaluated at log-spaced times, straight lines in dB between them.
        time_s = np.unique(np.concatenate([np.arange(16) * hop_s, np.geomspace(16 * hop_s, LONGEST_S, 120)])).astype(
            np.float32
        )
        functions = network.time_functions(parameters, "noise", time_s, np)
        level_db = network.noise_db(_single(network.modes(parameters, "noise", rows, np)), functions, time_s, np)
        band_db = 10 * np.log10(np.gradient(centres_hz))[:, None]
        loudest_db = (level_db.max(axis=1) + band_db).max(axis=0)
        later_db = np.maximum.accumulate(loudest_db[::-1])[::-1]
        n_strides = max(1, int(float(time_s[max(0, int((later_db > SILENCE_DB).sum()) - 1)]) / hop_s / STRIDE) + 1)
        frames_s = np.arange(n_strides * STRIDE) * hop_s
        power = np.exp(_between(level_db, time_s, frames_s) * np.float32(np.log(10) / 10))
        strides_db = np.interp(frames_s[::STRIDE], time_s, later_db).astype(np.float32)
        gain_db = network.gain_db(parameters, "noise", rows, _VELOCITIES, np)
        noise_gain = np.ascontiguousarray(10 ** (gain_db.T / 10), np.float32)
        return power.transpose(2, 1, 0).astype(np.float32), strides_db, noise_gain


def _single(modes: network.Modes) -> network.Modes:
    """The same in float32: NumPy's exponentials and cosines of it are ten times faster."""
    return network.Modes(*(np.asarray(part, np.float32) for part in modes))


def _between(values: Float32Array, at: Float32Array, wanted: NDArray[np.floating]) -> Float32Array:
    """Linear interpolation along the last axis. [..., n_wanted]"""
    index = np.clip(np.searchsorted(at, wanted) - 1, 0, len(at) - 2)
    part = ((wanted - at[index]) / (at[index + 1] - at[index])).astype(np.float32)
    low = values[..., index]
    return np.asarray(low + part * (values[..., index + 1] - low), np.float32)
