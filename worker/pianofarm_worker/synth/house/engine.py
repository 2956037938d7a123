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
from pianofarm_worker.synth.house.resonance import WASH_DAMPER_RATE, WASH_DB
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
    knock_gain: Float32Array  #: [N_GROUPS]
    wash: float  #: power of the wash
    n_wash: int  #: frames of it, 0 where the pedal was up
    next_hop: int = 0
    next_noise: int = 0
    next_knock: int = 0
    next_wash: int = 0
    n_audible: int = 0  #: partials that are heard, until the next multiple of `ROWS` hops

    @property
    def is_over(self) -> bool:
        """Nothing of it is left to play."""
        return (
            self.next_hop >= self.n_hops
            and self.next_noise >= self.n_noise
            and self.next_wash >= self.n_wash
            and self.next_knock >= self.table.knock.shape[2]
        )


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
        tone = tables.tone
        self._noise = NoiseBus(layout, n_channels, seed, None if tone is None else tone[:n_channels])
        if len(self._onset):
            self._noise.tone_from = self._noise.frame_at(int(self._onset[0]))
        self._n_pedal_noises = 0
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
        self._move_pedal(end)
        self._voices = [voice for voice in self._voices if not voice.is_over]

    def _continue(self, voice: _Voice, end: int, into: tuple[Float32Array, Float32Array], start: int) -> None:
        """Add a voice's part of a block, and its noise to the bus."""
        first_frame = self._noise.frame_at(voice.onset)
        hop, low, noise_low = self._hop, voice.next_hop, voice.next_noise
        high = max(low, min(voice.n_hops, -(-(end - voice.onset) // hop)))
        noise_high = max(noise_low, min(voice.n_noise, self._noise.n_frames_before(end) - first_frame))
        kept_from = min(low, noise_low // NOISE_FRAMES)
        kept = self._kept(voice, kept_from, max(high + 1, -(-noise_high // NOISE_FRAMES)))
        openness = self._openness(voice, low, high) if high > low else None
        at = low
        while at < high:
            if at % ROWS == 0:
                voice.n_audible = self._n_audible(voice, at, None if kept is None else float(kept[at - kept_from]))
            until = min(at - at % ROWS + ROWS, high)
            if voice.n_audible:
                part = None if kept is None else kept[at - kept_from : until + 1 - kept_from, None]
                if openness is not None:
                    part = _answered(voice, at, openness[at - low : until + 1 - low], part)
                self._add(voice, at, until, part, into, start)
            at = until
        if noise_high > noise_low:
            power = voice.table.noise[: self._n_channels, noise_low:noise_high] * voice.noise_gain
            if kept is not None:
                hops = np.arange(noise_low, noise_high) // NOISE_FRAMES - kept_from
                power *= (kept * kept)[hops, None]
            self._noise.add(first_frame + noise_low, power)
        voice.next_hop, voice.next_noise = high, noise_high
        self._add_knock(voice, end, into[0], start)
        self._add_wash(voice, end)

    def _openness(self, voice: _Voice, low: int, high: int) -> Float32Array | None:
        """How far the other strings answer at frames low..high; None where they do not."""
        time_s = (voice.onset + np.arange(low - 1, high) * self._hop) / self._rate_hz
        return self._score.openness(voice.note, time_s)

    def _add_knock(self, voice: _Voice, end: int, forwards: Float32Array, start: int) -> None:
        """The knock's part of a block."""
        low, high = voice.next_knock, min(voice.table.knock.shape[2], end - voice.onset)
        if high <= low:
            return
        voice.next_knock = high
        at = voice.onset + low - start
        for channel in range(self._n_channels):
            forwards[channel, at : at + high - low] += voice.knock_gain @ voice.table.knock[channel, :, low:high]

    def _add_wash(self, voice: _Voice, end: int) -> None:
        """The wash's part of a block, until felt has silenced it."""
        first_frame = self._noise.frame_at(voice.onset)
        low, high = voice.next_wash, min(voice.n_wash, self._noise.n_frames_before(end) - first_frame)
        if high <= low:
            return
        voice.next_wash = high
        contact = self._score.sustain
        hops = np.arange(low, high) // NOISE_FRAMES - 1
        since_s = contact.at(self._score.onset_s[voice.note : voice.note + 1])
        felt_s = contact.at((voice.onset + hops * self._hop) / self._rate_hz) - since_s
        power = voice.wash * np.exp(-2 * WASH_DAMPER_RATE * np.maximum(felt_s, 0.0))
        if power[-1] < 1e-4 * voice.wash:
            voice.next_wash = voice.n_wash
        self._noise.add(first_frame + low, (self._tables.wash[low:high] * power[:, None].astype(np.float32))[None])

    def _move_pedal(self, end: int) -> None:
        """The noises of the sustain pedal before a block's end."""
        moves, bus = self._score.pedal_noises, self._noise
        while self._n_pedal_noises < len(moves) and moves[self._n_pedal_noises][0] * self._rate_hz < end:
            time_s, is_down = moves[self._n_pedal_noises]
            self._n_pedal_noises += 1
            noise = self._tables.pedal(down=is_down)
            if noise is not None:
                bus.add(bus.frame_at(int(time_s * self._rate_hz)), noise[: self._n_channels])

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
        soft_gain = np.float32(10 ** (-0.1 * score.soft[note]))
        wash = float(score.open_part[note]) * 10 ** (table.lasts.peak_db[velocity] / 10) * float(soft_gain) ** 2
        return _Voice(
            note=note,
            table=table,
            gain=gain,
            silence_db=silence_db,
            noise_gain=noise_gain,
            onset=int(self._onset[note]),
            n_hops=n_hops,
            n_noise=n_noise,
            knock_gain=table.knock_gain[velocity] * soft_gain,
            wash=wash,
            n_wash=len(self._tables.wash) if 10 * np.log10(wash + 1e-12) + WASH_DB > SILENCE_DB else 0,
        )

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
        """Hops low..high - 1 of a voice's audible partials; `kept` is what is left of frames low..high, or None for all."""
        n, table = voice.n_audible, voice.table
        # A note has fewer frames in a block than a hop has samples: the gain goes to the amplitudes, not to the basis.
        gain = voice.gain[:n] if kept is None else voice.gain[:n] * kept
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


def _answered(voice: _Voice, low: int, openness: Float32Array, kept: Float32Array | None) -> Float32Array | None:
    """What is left of frames from `low` on, with what the other strings add to each partial; None for all of it, and no more.

    [n_frames, 1] or [n_frames, n_audible]; `openness` is [n_frames], `kept` [n_frames, 1].
    """
    if not openness.any():
        return kept
    factor: Float32Array = voice.table.answer[low : low + len(openness), : voice.n_audible] * openness[:, None]
    factor += np.float32(1)
    return factor if kept is None else factor * kept
