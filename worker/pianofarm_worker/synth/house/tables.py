"""A key's tables: everything about it that no note changes, evaluated from the networks once, when the key is first played.

Levels in tables are those of velocity 127; a note scales them. No notes, no pedals here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.bundles import coordinates
from pianofarm_worker.synth.house.grains import advance, make_basis
from pianofarm_worker.synth.house.key_table import SILENCE_DB, STRIDE, KeyTable, in_phases, in_strides
from pianofarm_worker.synth.house.knock import Knocks
from pianofarm_worker.synth.house.layout import SLOW, Layout
from pianofarm_worker.synth.house.recorded_keys import RecordedKeys
from pianofarm_worker.synth.house.resonance import answer, coupling, wash

Float32Array = NDArray[np.float32]

#: Length of a release noise.
RELEASE_S = 0.44

#: The sustain pedal's noise against the mean of every fourth key's noise when let go, and where it grows dull: up, down.
PEDAL_NOISE_EVERY, PEDAL_NOISE_DB, PEDAL_DULL_ABOVE_HZ = 4, (2.0, -3.0), (1500.0, 400.0)

#: Lowest key of a piano, A0.
LOWEST_PITCH = 21

#: How much of the straight line in loudness from one recorded key to the next is given to the keys between. With house-2, at three
#: velocities, keys are 0.89 dB rms off the mean of their neighbours with all of it, 1.02 with none, 0.82 with half.
TOWARDS_NEIGHBOUR = 0.5


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
        self._releases: dict[int, Float32Array] = {}
        self._pedals: dict[bool, Float32Array] = {}
        self._wash: Float32Array | None = None
        self._knocks = Knocks(parameters, self.layout.sample_rate_hz)
        try:
            self._recorded = RecordedKeys(parameters, self.layout)
            self._curves = parameters["curve.f0_hz"], parameters["curve.inharmonicity"]
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
            self._wash = in_phases(np.repeat(wash(self.layout)[:, None], 2, axis=1))
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
        key = self._recorded.nearest(pitch)
        heard = self._recorded[key]
        k = np.arange(1, self._recorded.n_partials[key] + 1)
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
        amplitude, step = in_strides(turned)
        basis = make_basis(frequency_hz, layout.sample_rate_hz, layout.hop)
        rise = layout.rise(float(self._parameters["tuning.rise_s"][key]))
        return KeyTable(
            frequency_hz=frequency_hz,
            basis=basis,
            shapes=coordinates(frequency_hz, basis, layout.sample_rate_hz),
            amplitude=amplitude,
            step=step,
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
            lasts=heard.lasts(gain, noise_gain),
        )

    def _towards_neighbour_db(self, pitch: int, key: int) -> float:
        """How much louder than its nearest recorded key a key is: some of the way to the next recorded key's loudness."""
        recorded = self._recorded
        distance = pitch - int(recorded.pitch[key])
        other = key + (1 if distance > 0 else -1)
        if distance == 0 or not 0 <= other < len(recorded.pitch):
            return 0.0
        part = distance / int(recorded.pitch[other] - recorded.pitch[key])
        return TOWARDS_NEIGHBOUR * part * (recorded.loudness_db(other) - recorded.loudness_db(key))
