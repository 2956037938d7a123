"""From a score to sound, block by block and causally: what a block holds depends on nothing that happens after it.

Every note has its own frames, which begin at its onset: onsets are exact to the sample, and no note waits for another.
Partials are matrix products per note and block (`grains`); the noise of all notes goes, as power, to one bus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.dampers import una_corda_gain
from pianofarm_worker.synth.house.grains import Basis, halves
from pianofarm_worker.synth.house.noise_bus import NoiseBus
from pianofarm_worker.synth.house.score import Score
from pianofarm_worker.synth.house.tables import SILENCE_DB, STRIDE, KeyTable, KeyTables

Float32Array = NDArray[np.float32]

#: Samples a block; long ones cost less, as a note is set up once a block.
DEFAULT_BLOCK = 1 << 18

#: Hops of a note that are one product, with as many partials as are audible when it begins; a multiple of STRIDE.
ROWS = 128

#: Frames of noise in a hop of partials.
NOISE_FRAMES = 2

#: Decibels in a neper of amplitude.
NEPER_DB = 8.685889638


@dataclass
class _Voice:
    """A note that sounds."""

    note: int
    table: KeyTable
    gain: Float32Array  #: [n_partials]
    silence_db: Float32Array  #: [n_partials], levels at velocity 127 that are just not heard
    noise_gain: Float32Array  #: [n_bands], power
    onset: int  #: sample
    n_hops: int  #: until its partials are silent
    n_noise: int  #: frames of noise
    next_hop: int = 0
    next_noise: int = 0
    n_audible: int = 0  #: partials that are heard, until the next multiple of `ROWS` hops


class Engine:
    """Plays one score. Not to be shared between threads; the tables may be."""

    def __init__(
        self, tables: KeyTables, score: Score, *, seed: int, n_channels: int, block: int = DEFAULT_BLOCK
    ) -> None:
        """Prepare to play.

        Args:
            tables: of the model.
            score: what to play.
            seed: of the noise.
            n_channels: 2, or 1 for the left one alone; channels are never mixed.
            block: samples a block; what comes out does not depend on it but for rounding.
        """
        self._tables, self._score, self._n_channels, self._block = tables, score, n_channels, block
        layout = tables.layout
        self._rate_hz, self._hop = layout.sample_rate_hz, layout.hop
        self._onset = np.round(score.onset_s * self._rate_hz).astype(np.int64)
        self._noise = NoiseBus(layout, n_channels, seed)
        self._voices: list[_Voice] = []
        self._n_started = 0
        self._silent_after = self._silences()
        self._released = np.argsort(score.released_s, kind="stable")  # notes by when their keys go up
        self._n_released = 0

    @property
    def end(self) -> int:
        """Sample at which the last note is silent."""
        return int((self._onset + self._silent_after).max(initial=0))

    def blocks(self, n_samples: int) -> Iterator[Float32Array]:
        """Play.

        Args:
            n_samples: how much, in all.

        Yields:
            [block, n_channels] float32, the last one shorter.
        """
        spill = np.zeros((self._n_channels, self._hop), np.float32)
        for start in range(0, n_samples, self._block):
            # Falling halves of the windows are added forwards, rising ones backwards (see `grains.halves`).
            sound = np.zeros((self._n_channels, self._block + self._hop), np.float32)
            backwards = np.zeros((self._n_channels, self._block + self._hop + 1), np.float32)
            self._play(sound, backwards, start)
            sound += backwards[:, :0:-1]
            sound[:, : self._hop] += spill
            spill = sound[:, self._block :].copy()
            sound = sound[:, : self._block]
            sound += self._noise.play(start, self._block)
            yield np.ascontiguousarray(sound[:, : n_samples - start].T)

    def _silences(self) -> NDArray[np.int64]:
        """Samples after which the partials and the noise of each note are silent: died away, or damped. [2, n_notes]"""
        score, rate_hz = self._score, self._rate_hz
        silent = np.zeros((2, len(score.pitch)), np.int64)
        peak_db = np.zeros(len(score.pitch))
        for note, (pitch, velocity) in enumerate(zip(score.pitch.tolist(), score.velocity.tolist(), strict=True)):
            lasts = self._tables[pitch].lasts
            silent[0, note] = (lasts.n_frames[velocity] - 1) * self._hop
            silent[1, note] = lasts.n_noise_frames[velocity] * self._noise.hop
            peak_db[note] = lasts.peak_db[velocity]
        to_lose = np.maximum(peak_db - SILENCE_DB, 1.0) / NEPER_DB
        damped_s = np.maximum(score.damped_by(to_lose) - score.onset_s, 0.0)
        damped = np.minimum(damped_s * rate_hz, 1e12).astype(np.int64) + 2 * self._hop
        return np.asarray(np.minimum(silent, damped))

    def _play(self, sound: Float32Array, backwards: Float32Array, start: int) -> None:
        """Add every voice's part of a block, and its noise to the bus."""
        end = start + self._block
        until = int(np.searchsorted(self._onset, end))
        for note in range(self._n_started, until):
            self._voices.append(self._strike(note))
        self._n_started = until
        for voice in self._voices:
            self._continue(voice, end, (sound, backwards), start)
        self._release(end)
        self._voices = [v for v in self._voices if v.next_hop < v.n_hops or v.next_noise < v.n_noise]

    def _continue(self, voice: _Voice, end: int, into: tuple[Float32Array, Float32Array], start: int) -> None:
        """Add a voice's part of a block, and its noise to the bus."""
        first_frame = self._noise.frame_at(voice.onset)
        hop, low, noise_low = self._hop, voice.next_hop, voice.next_noise
        high = max(low, min(voice.n_hops, -(-(end - voice.onset) // hop)))
        noise_high = max(noise_low, min(voice.n_noise, self._noise.n_frames_before(end) - first_frame))
        kept_from = min(low, noise_low // NOISE_FRAMES)
        kept = self._kept(voice, kept_from, max(high + 1, -(-noise_high // NOISE_FRAMES)))
        at = low
        while at < high:
            if at % ROWS == 0:
                voice.n_audible = self._n_audible(voice, at, None if kept is None else float(kept[at - kept_from]))
            until = min(at - at % ROWS + ROWS, high)
            if voice.n_audible:
                part = None if kept is None else kept[at - kept_from : until + 1 - kept_from]
                self._add(voice, at, until, part, into, start)
            at = until
        if noise_high > noise_low:
            power = voice.table.noise[: self._n_channels, noise_low:noise_high] * voice.noise_gain
            if kept is not None:
                hops = np.arange(noise_low, noise_high) // NOISE_FRAMES - kept_from
                power *= (kept * kept)[hops, None]
            self._noise.add(first_frame + noise_low, power)
        voice.next_hop, voice.next_noise = high, noise_high

    def _release(self, end: int) -> None:
        """The noises of the keys that go up before a block's end."""
        score, bus = self._score, self._noise
        while self._n_released < len(self._released):
            note = int(self._released[self._n_released])
            if score.released_s[note] * self._rate_hz >= end:
                return
            self._n_released += 1
            noise = self._tables.release(int(score.pitch[note]))
            if noise is not None:
                first_frame = bus.frame_at(int(score.released_s[note] * self._rate_hz))
                bus.add(first_frame, noise[: self._n_channels] * np.float32(score.release_part[note]))

    def _strike(self, note: int) -> _Voice:
        score = self._score
        table, velocity = self._tables[int(score.pitch[note])], int(score.velocity[note])
        gain, noise_gain, silence_db = table.gain[velocity], table.noise_gain[velocity], table.silence_db[velocity]
        if score.soft[note] > 0:
            gain = gain * una_corda_gain(table.frequency_hz, float(score.soft[note]))
            noise_gain = noise_gain * np.float32(10 ** (-0.3 * score.soft[note]))
            silence_db = SILENCE_DB - 20 * np.log10(gain + 1e-9)
        partials, noise = (int(n) for n in self._silent_after[:, note])
        n_hops, n_noise = max(1, partials // self._hop), max(1, noise // self._noise.hop)
        return _Voice(note, table, gain, silence_db, noise_gain, int(self._onset[note]), n_hops, n_noise)

    def _n_audible(self, voice: _Voice, hop: int, kept: float | None) -> int:
        """Partials of a voice that are heard from a hop on, where damping has left a part of them."""
        silence_db = voice.silence_db
        if kept is not None and kept < 1.0:
            silence_db = silence_db - 20 * np.float32(np.log10(kept + 1e-9))
        audible = voice.table.later_db[hop // STRIDE] > silence_db
        last = int(audible[::-1].argmax())
        return len(audible) - last if audible[len(audible) - 1 - last] else 0

    def _add(
        self,
        voice: _Voice,
        low: int,
        high: int,
        kept: Float32Array | None,
        into: tuple[Float32Array, Float32Array],
        start: int,
    ) -> None:
        """Hops low..high - 1 of a voice's audible partials; `kept` is what damping leaves of frames low..high."""
        n, table = voice.n_audible, voice.table
        # A note has fewer frames in a block than a hop has samples: the gain goes to the amplitudes, not to the basis.
        gain = voice.gain[:n] if kept is None else voice.gain[:n] * kept[:, None]
        basis = Basis(table.basis.cosine[:n], table.basis.sine[:n])
        rise = table.rise[low:high]
        forwards, backwards = into
        at = voice.onset + low * self._hop - start
        for channel in range(self._n_channels):
            falling, rising = halves(
                table.real[channel, low : high + 1, :n] * gain,
                table.imaginary[channel, low : high + 1, :n] * gain,
                basis,
            )
            if len(rise):
                falling[: len(rise)] *= rise
                rising[::-1][: len(rise), 1:] *= rise[:, :0:-1]
            forwards[channel, at : at + falling.size] += falling.reshape(-1)
            at_back = forwards.shape[1] - at - falling.size
            backwards[channel, at_back : at_back + rising.size].reshape(rising.shape)[:] += rising

    def _kept(self, voice: _Voice, low: int, high: int) -> Float32Array | None:
        """What damping leaves of frames low..high - 1, [n_frames]; None where that is all.

        A frame hears of pedals and keys one hop late: that keeps the engine causal, and felt takes longer to fall. Noise is
        damped as the hop is that it lies in.
        """
        if self._score.is_free(voice.note, (voice.onset + (high - 2) * self._hop) / self._rate_hz):
            return None
        time_s = (voice.onset + np.arange(low - 1, high - 1) * self._hop) / self._rate_hz
        return np.exp(-self._score.damping(voice.note, time_s)).astype(np.float32)
