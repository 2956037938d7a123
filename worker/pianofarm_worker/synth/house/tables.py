"""A key's tables: everything about it that no note changes, evaluated from the networks once, when the key is first played.

Levels in tables are those of velocity 127; a note scales them. No notes, no pedals here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.bundles import coordinates
from pianofarm_worker.synth.house.grains import Basis, advance, make_basis
from pianofarm_worker.synth.house.knock import Knocks
from pianofarm_worker.synth.house.layout import NOISE_ONSET, SLOW, Layout
from pianofarm_worker.synth.house.resonance import answer, coupling, wash

Float32Array = NDArray[np.float32]

#: A partial quieter than this is not synthesized, in dB full scale: with the output gain, half a step of 16 bits.
SILENCE_DB = -85.0

#: No table is longer.
LONGEST_S = 30.0

#: Length of a release noise.
RELEASE_S = 0.44

#: Frames that share one count of audible partials.
STRIDE = 32

#: The sustain pedal's noise against the mean of every fourth key's noise when let go, and where it grows dull: up, down.
PEDAL_NOISE_EVERY, PEDAL_NOISE_DB, PEDAL_DULL_ABOVE_HZ = 4, (2.0, -3.0), (1500.0, 400.0)

#: Lowest key of a piano, A0.
LOWEST_PITCH = 21

#: How much of the straight line in loudness from one recorded key to the next is given to the keys between. With house-2, at three
#: velocities, keys are 0.89 dB rms off the mean of their neighbours with all of it, 1.02 with none, 0.82 with half.
TOWARDS_NEIGHBOUR = 0.5

_VELOCITIES = np.arange(128, dtype=np.float32)


class Lasts(NamedTuple):
    """How long a key is heard and how loud it gets, by velocity; lists, as a note asks for one number."""

    n_frames: list[int]  #: [128], until the partials are silent
    n_noise_frames: list[int]  #: [128], until the noise is silent
    peak_db: list[float]  #: [128], level of the loudest partial


@dataclass(frozen=True)
class KeyTable:
    """What one key sounds like at velocity 127, and what other velocities do to it."""

    frequency_hz: NDArray[np.float64]  #: [n_partials]
    basis: Basis
    shapes: tuple[Float32Array, ...]  #: the same in the spaces of the engine's bundles (`bundles.coordinates`)
    amplitude: NDArray[np.complex64]  #: see `in_strides`
    back: NDArray[np.complex64]  #: [n_partials], turns back by one hop
    later_db: Float32Array  #: [n_frames / STRIDE, n_partials], loudest level from that frame on, falling
    gain: Float32Array  #: [128, n_partials], linear, by velocity
    rise: Float32Array  #: [RISE_HOPS, hop], how the note comes in
    n_rise: int  #: samples of it that are not one
    noise: Float32Array  #: [SLOW, n_noise_frames / SLOW, 2, n_bands], full scale^2 per Hz: frames 0, SLOW, 2 SLOW ..., then 1, ...
    early_noise: Float32Array  #: [NOISE_ONSET + 2 SLOW, 2, n_bands], its first frames, one after the other
    noise_gain: Float32Array  #: [128, n_bands], linear power, by velocity
    answer: (
        Float32Array  #: [n_strides + 1, n_partials], what the other strings add to the partials (`resonance.answer`)
    )
    knock: Float32Array  #: [2, N_GROUPS, n_samples], at velocity 127 (`knock.Knocks`)
    knock_gain: Float32Array  #: [128, N_GROUPS], linear, by velocity
    silence_db: Float32Array  #: [128, n_partials], levels at velocity 127 that are just not heard, by velocity
    lasts: Lasts


@dataclass(frozen=True)
class _Recorded:
    """What the networks say about a recorded key: shared by the keys that are nearest to it."""

    amplitude: NDArray[np.complex64]  #: [2, n_frames, n_partials], demodulated
    later_db: Float32Array
    gain: Float32Array
    noise: Float32Array  #: as of `KeyTable`, as `early_noise`
    early_noise: Float32Array
    noise_later_db: Float32Array  #: [n_noise_frames / STRIDE], loudest band's level from that frame on, falling
    noise_gain: Float32Array


class KeyTables:
    """The tables of all keys, made as they are needed."""

    def __init__(self, parameters: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> None:
        """Take the weights; nothing is evaluated yet.

        Args:
            parameters: of the networks; what was measured of each recorded key: `tuning.pitch`, `.frequency_hz`,
                `.offset_cents`, `.n_partials`, `.phase` and `.rise_s`; and the curves over 88 keys `curve.f0_hz` and
                `curve.inharmonicity`.
            config: of the model.

        Raises:
            BadModel: parameters are missing.
        """
        self.layout = Layout.from_config(config)
        self._parameters = parameters
        self._tables: dict[int, KeyTable] = {}
        self._heard: dict[int, _Recorded] = {}
        self._releases: dict[int, Float32Array] = {}
        self._loudness: dict[int, float] = {}
        self._pedals: dict[bool, Float32Array] = {}
        self._wash: Float32Array | None = None
        self._knocks = Knocks(parameters, self.layout.sample_rate_hz)
        try:
            self._recorded = parameters["tuning.pitch"].astype(int)
            self._curves = parameters["curve.f0_hz"], parameters["curve.inharmonicity"]
            self._n_partials = parameters["tuning.n_partials"].astype(int)
        except KeyError as error:
            raise BadModel(f"the weights hold no {error}: not a house model, or a damaged one") from None

    def __getitem__(self, pitch: int) -> KeyTable:
        """The table of a key, MIDI pitch 21..108."""
        if pitch not in self._tables:
            self._tables[pitch] = self._make(pitch)
        return self._tables[pitch]

    def prepare(self, pitch: int) -> None:
        """Make now what would be made when the key is first played: 8 ms of work, 3 MB on average."""
        self[pitch]
        self.release(pitch)

    def release(self, pitch: int) -> Float32Array | None:
        """Noise of a key let go, [n_frames, 2, n_bands], full scale^2 per Hz; None in a model that knows none."""
        if "release.time.0.kernel" not in self._parameters:
            return None
        if pitch not in self._releases:
            layout, bands = self.layout, self.layout.bands
            centres_hz = band_centres_hz(bands.n_bands, layout.sample_rate_hz).astype(np.float32)
            rows = network.Rows(np.full(bands.n_bands, pitch - LOWEST_PITCH), np.arange(bands.n_bands), centres_hz)
            time_s = np.arange(int(RELEASE_S * layout.sample_rate_hz / bands.hop), dtype=np.float32)
            time_s *= np.float32(bands.hop / layout.sample_rate_hz)
            functions = network.time_functions(self._parameters, "release", time_s, np)
            level_db = network.noise_db(network.modes(self._parameters, "release", rows, np), functions, time_s, np)
            self._releases[pitch] = np.ascontiguousarray((10 ** (level_db / 10)).transpose(2, 1, 0), np.float32)
        return self._releases[pitch]

    @property
    def n_knock(self) -> int:
        """Samples of every key's knock, 0 in a model that knows none."""
        return self._knocks.n_samples

    @property
    def tone(self) -> Float32Array | None:
        """The room's own noise, [2, n_bands], full scale^2 per Hz; None in a model that knows none."""
        if "hiss.density_db" not in self._parameters:
            return None
        return np.asarray(10 ** (self._parameters["hiss.density_db"] / 10), np.float32)

    @property
    def wash(self) -> Float32Array:
        """See `resonance.wash`; in the order of `KeyTable.noise`, the same in both channels."""
        if self._wash is None:
            self._wash = _in_phases(np.repeat(wash(self.layout)[:, None], 2, axis=1))
        return self._wash

    @property
    def n_wash(self) -> int:
        """Frames of the wash."""
        return SLOW * int(self.wash.shape[1])

    def pedal(self, *, down: bool) -> Float32Array | None:
        """Noise of the sustain pedal, [n_frames, 2, n_bands], full scale^2 per Hz; None in a model without release noises.

        Going up it lets all dampers fall at once, softly: the mean noise of the keys let go. Going down it is duller and softer.
        """
        if down not in self._pedals:
            noises = [self.release(pitch) for pitch in range(LOWEST_PITCH, LOWEST_PITCH + 88, PEDAL_NOISE_EVERY)]
            found = [noise for noise in noises if noise is not None]
            if not found:
                return None
            centres_hz = band_centres_hz(self.layout.bands.n_bands, self.layout.sample_rate_hz)
            dull = 1 / (1 + (centres_hz / PEDAL_DULL_ABOVE_HZ[down]) ** 2)
            level = 10 ** (PEDAL_NOISE_DB[down] / 10)
            self._pedals[down] = np.asarray(np.mean(found, axis=0) * dull * level, np.float32)
        return self._pedals[down]

    def _make(self, pitch: int) -> KeyTable:
        """The networks know the recorded keys: a key between two is the nearer one, tuned to its own place."""
        layout = self.layout
        key = int(np.abs(self._recorded - pitch).argmin())
        if key not in self._heard:
            self._heard[key] = self._evaluate(key)
        heard = self._heard[key]
        k = np.arange(1, self._n_partials[key] + 1)
        f0_hz, b = (float(curve[pitch - LOWEST_PITCH]) for curve in self._curves)
        cents = self._parameters["tuning.offset_cents"][key, : len(k)]
        frequency_hz = k * f0_hz * np.sqrt(1 + b * k**2) * 2 ** (cents / 1200)
        frequency_hz = frequency_hz[frequency_hz < 0.49 * layout.sample_rate_hz]
        n = len(frequency_hz)
        louder_db = self._towards_neighbour_db(pitch, key)
        gain = heard.gain[:, :n] * np.float32(10 ** (louder_db / 20))
        noise_gain = heard.noise_gain * np.float32(10 ** (louder_db / 10))
        strength = coupling(pitch, frequency_hz, *(np.asarray(curve, float) for curve in self._curves))
        turned = advance(heard.amplitude[:, :, :n], frequency_hz, layout.sample_rate_hz, layout.hop)
        basis = make_basis(frequency_hz, layout.sample_rate_hz, layout.hop)
        rise = layout.rise(float(self._parameters["tuning.rise_s"][key]))
        return KeyTable(
            frequency_hz=frequency_hz,
            basis=basis,
            shapes=coordinates(frequency_hz, basis, layout.sample_rate_hz),
            amplitude=in_strides(turned),
            back=np.exp(-2j * np.pi * layout.hop / layout.sample_rate_hz * frequency_hz).astype(np.complex64),
            later_db=np.ascontiguousarray(heard.later_db[:, :n]),
            gain=gain,
            rise=rise,
            n_rise=int((rise < 1).sum()),
            noise=heard.noise,
            early_noise=heard.early_noise,
            noise_gain=noise_gain,
            answer=answer(heard.later_db[:, :n], strength, STRIDE, layout.hop / layout.sample_rate_hz),
            knock=self._knocks.of(key),
            knock_gain=self._knocks.gain * np.float32(10 ** (louder_db / 20)),
            silence_db=SILENCE_DB - 20 * np.log10(gain + np.float32(1e-9)),
            lasts=_lasts(heard, gain, noise_gain),
        )

    def _towards_neighbour_db(self, pitch: int, key: int) -> float:
        """How much louder than its nearest recorded key a key is: some of the way to the next recorded key's loudness."""
        distance = pitch - int(self._recorded[key])
        other = key + (1 if distance > 0 else -1)
        if distance == 0 or not 0 <= other < len(self._recorded):
            return 0.0
        part = distance / int(self._recorded[other] - self._recorded[key])
        return TOWARDS_NEIGHBOUR * part * (self._loudness_db(other) - self._loudness_db(key))

    def _loudness_db(self, key: int) -> float:
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
        n = int(self._n_partials[key])
        return network.Rows(np.full(n, key), np.arange(n), self._parameters["tuning.frequency_hz"][key, :n])

    def _evaluate(self, key: int) -> _Recorded:
        parameters, layout = self._parameters, self.layout
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
        return _Recorded(
            amplitude=np.ascontiguousarray(amplitude.transpose(1, 2, 0), np.complex64),
            later_db=np.ascontiguousarray(later_db[:, :n_strides].T, np.float32),
            gain=np.ascontiguousarray(10 ** (gain_db.T / 20), np.float32),
            noise=_in_phases(noise),
            early_noise=noise[: NOISE_ONSET + 2 * SLOW].copy(),
            noise_later_db=noise_later_db,
            noise_gain=noise_gain,
        )

    def _noise(self, key: int) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Noise over time at velocity 127 [n_frames, 2, n_bands], how loud it still gets, and its gain by velocity."""
        parameters, layout = self._parameters, self.layout
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


def in_strides(amplitude: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Amplitudes as notes read them: what a second of one needs lies close together, which halves the time it takes to read.

    Args:
        amplitude: [2, n_strides * STRIDE + 1, n_partials].

    Returns:
        [n_strides, 2, n_partials, STRIDE + 1]: each stride ends with the frame that the next one begins with.
    """
    n_channels, n_frames, n_partials = amplitude.shape
    found = np.empty((n_frames // STRIDE, n_channels, n_partials, STRIDE + 1), np.complex64)
    strides = amplitude[:, :-1].reshape(n_channels, -1, STRIDE, n_partials)
    found[..., :-1] = strides.transpose(1, 0, 3, 2)
    found[..., -1] = amplitude[:, STRIDE::STRIDE].transpose(1, 0, 2)
    return found


def out_of_strides(strides: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """[n_strides, n_channels, n_partials, STRIDE + 1], some of what `in_strides` gives -> [n_frames, n_channels, n_partials]."""
    frames = strides[..., :-1].transpose(0, 3, 1, 2).reshape(len(strides) * STRIDE, *strides.shape[1:3])
    return np.concatenate((frames, strides[-1:, ..., -1]))


def between(answer: Float32Array) -> Float32Array:
    """[n_strides + 1, n_partials], some rows of `KeyTable.answer` -> [STRIDE n_strides + 1, n_partials]: straight lines between."""
    part = (np.arange(STRIDE, dtype=np.float32) / STRIDE)[:, None]
    lines = answer[:-1, None] + np.diff(answer, axis=0)[:, None] * part
    return np.concatenate((lines.reshape(STRIDE * len(lines), answer.shape[1]), answer[-1:]))


def _in_phases(power: Float32Array) -> Float32Array:
    """[n_frames, 2, n_bands] -> [SLOW, n_frames / SLOW, 2, n_bands]: what is read together lies together."""
    return np.ascontiguousarray(power.reshape(-1, SLOW, *power.shape[1:]).swapaxes(0, 1))


def _lasts(heard: _Recorded, gain: Float32Array, noise_gain: Float32Array) -> Lasts:
    """When a key's partials and noise fall silent for good, by velocity."""
    gain_db = 20 * np.log10(gain + np.float32(1e-9))
    loudest_db = np.stack([(stride_db[: gain.shape[1]] + gain_db).max(axis=1) for stride_db in heard.later_db])
    n_frames = (loudest_db > SILENCE_DB).sum(axis=0) * STRIDE
    noise_louder_db = 10 * np.log10(noise_gain.max(axis=1) + 1e-9)
    n_noise_frames = (heard.noise_later_db[:, None] + noise_louder_db > SILENCE_DB).sum(axis=0) * STRIDE
    return Lasts(
        np.clip(n_frames, 2, heard.amplitude.shape[1]).tolist(),
        np.clip(n_noise_frames, 1, SLOW * heard.noise.shape[1]).tolist(),
        loudest_db[0].tolist(),
    )


def _between(values: Float32Array, at: Float32Array, wanted: NDArray[np.floating]) -> Float32Array:
    """Linear interpolation along the last axis. [..., n_wanted]"""
    index = np.clip(np.searchsorted(at, wanted) - 1, 0, len(at) - 2)
    part = ((wanted - at[index]) / (at[index + 1] - at[index])).astype(np.float32)
    low = values[..., index]
    return np.asarray(low + part * (values[..., index + 1] - low), np.float32)
