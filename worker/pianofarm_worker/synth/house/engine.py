"""From a score to sound, block by block and causally: what a block holds depends on nothing that happens after it.

Every note begins at its own sample, with frames of its own (`attack`); some milliseconds later it goes over to frames that all
notes share, whose partials are summed by few large matrix products (`bundles`). The noise of all notes goes, as power, to one bus.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.attack import MOST_FRAMES, add_attack, taken_over
from pianofarm_worker.synth.house.bundles import Bundles
from pianofarm_worker.synth.house.dampers import una_corda_gain
from pianofarm_worker.synth.house.knock import add_knock
from pianofarm_worker.synth.house.layout import NOISE_ONSET, SLOW
from pianofarm_worker.synth.house.noise_bus import NoiseBus, add_power
from pianofarm_worker.synth.house.resonance import WASH_DAMPER_RATE, WASH_DB
from pianofarm_worker.synth.house.score import Score
from pianofarm_worker.synth.house.slow_noise import (
    NOISE_FRAMES,
    add_onset,
    add_slow_power,
    between,
    slow_frames,
)
from pianofarm_worker.synth.house.tables import SILENCE_DB, KeyTables
from pianofarm_worker.synth.house.voices import Laws, Voice

Float32Array = NDArray[np.float32]

#: Hops of a block; at the start of each is decided which partials are still heard. Longer ones sum more silence, shorter ones cost
#: more calls.
BLOCK_HOPS = 128

#: Hops for which a note's damping is known when it is struck.
_EARLY_HOPS = max(MOST_FRAMES, -(-(NOISE_ONSET + 2 * SLOW) // NOISE_FRAMES) + 1)

#: Decibels in a neper of amplitude.
NEPER_DB = 8.685889638


class Engine:
    """Plays one score. Not to be shared between threads; the tables may be."""

    def __init__(self, tables: KeyTables, score: Score, *, seed: int, n_channels: int) -> None:
        """Prepare to play.

        Args:
            tables: of the model.
            score: what to play.
            seed: of the noise.
            n_channels: 2, or 1 for the left one alone; channels are never mixed.
        """
        self._tables, self._score, self._n_channels = tables, score, n_channels
        layout = tables.layout
        self._rate_hz, self._hop, self._block = layout.sample_rate_hz, layout.hop, BLOCK_HOPS * layout.hop
        self._onset = np.round(score.onset_s * self._rate_hz).astype(np.int64)
        tone = tables.tone
        self._noise = NoiseBus(layout, n_channels, seed, None if tone is None else tone[:n_channels])
        if len(self._onset):
            self._noise.tone_from = self._noise.frame_at(int(self._onset[0]))
        self._bundles = Bundles(n_channels, BLOCK_HOPS, layout.sample_rate_hz, layout.hop)
        self._n_pedal_noises = 0
        self._voices: list[Voice] = []
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
        block = self._block
        n_spill = max(self._tables.n_knock, MOST_FRAMES * self._hop)
        ahead = np.zeros((self._n_channels, block + n_spill), np.float32)  # attacks and knocks, which blocks do not end
        for start in range(0, n_samples, block):
            ahead[:, :n_spill] = ahead[:, block:]
            ahead[:, n_spill:] = 0
            self._strike_until(start + block, ahead, start)
            sound = self._play(start)
            sound += ahead[:, :block]
            self._release(start + block)
            self._move_pedal(start + block)
            sound += self._noise.play(start, block)
            yield sound[:, : n_samples - start].T

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

    def _strike_until(self, end: int, sound: Float32Array, start: int) -> None:
        """Begin the notes before a block's end: their attacks and knocks go to the sound that begins with the block."""
        until = int(np.searchsorted(self._onset, end))
        notes = np.arange(self._n_started, until)
        if not len(notes):
            return
        self._n_started = until
        time_s = (self._onset[notes, None] + np.arange(-1, _EARLY_HOPS - 1) * self._hop) / self._rate_hz
        laws = self._laws(notes, time_s)
        for row, note in enumerate(notes.tolist()):
            voice, gain, knock_gain = self._strike(note)
            self._voices.append(voice)
            onset, table = int(self._onset[note]), voice.table
            at = onset - start
            n = voice.n_audible(0, 1.0)
            if n:
                weight = laws.weight(row, table.answer)
                add_attack(sound, at, voice, gain, n, weight, voice.first * self._hop - onset)
            add_onset(self._noise, voice, laws.kept[row])
            add_knock(sound, at, knock_gain, table.knock)

    def _laws(self, notes: NDArray[np.int_], time_s: NDArray[np.float64]) -> Laws:
        """What pedals and keys do to notes at frames of these times.

        A frame hears of pedals and keys one hop late: that keeps the engine causal, and felt takes longer to fall.
        """
        score = self._score
        contact_s = score.sustain.at(time_s)
        kept = score.kept(notes, time_s, contact_s)
        return Laws(kept, score.openness(notes, time_s, contact_s) if score.is_pedalled else np.zeros_like(kept))

    def _play(self, start: int) -> Float32Array:
        """The partials of all voices in a block, [n_channels, block]; their noise goes to the bus."""
        hop, begin = self._hop, start // self._hop
        notes = np.array([voice.note for voice in self._voices], int)
        time_s = (np.arange(begin - 1, begin + BLOCK_HOPS) * hop)[None] / self._rate_hz
        laws = self._laws(notes, time_s)
        kept_power = laws.kept[:, :: SLOW // NOISE_FRAMES] ** 2
        powers = np.zeros((kept_power.shape[1], self._n_channels, self._tables.layout.bands.n_bands), np.float32)
        for row, voice in enumerate(self._voices):
            low, high = max(voice.first + 1, begin), min(voice.until, begin + BLOCK_HOPS + 1)
            if high > low:
                self._add(voice, slice(low - begin, high - begin), low - voice.clock, laws, row)
            add_slow_power(voice, kept_power[row], begin * NOISE_FRAMES, powers)
        self._add_washes(begin, time_s[:, :: SLOW // NOISE_FRAMES], powers)
        self._noise.add(begin * NOISE_FRAMES, between(powers, SLOW))
        end, noise_end = begin + BLOCK_HOPS, (begin + BLOCK_HOPS) * NOISE_FRAMES
        self._voices = [voice for voice in self._voices if not voice.is_over(end, noise_end)]
        return self._bundles.play().reshape(self._n_channels, -1)

    def _add(self, voice: Voice, frames: slice, own: int, laws: Laws, row: int) -> None:
        """A voice's audible partials at some frames of a block, the first of which comes with or after its own frame `own`."""
        table = voice.table
        n = voice.n_audible(own, float(laws.kept[row, frames.start]))
        if n:
            weight = laws.weight(row, table.answer)
            self._bundles.add(table.shapes, table.amplitude, voice.turn, n, weight, own, frames)

    def _add_washes(self, begin: int, time_s: NDArray[np.float64], powers: Float32Array) -> None:
        """The washes in a block's slow frames, until felt has silenced them; `time_s` is when these hear of the pedal."""
        start = begin * NOISE_FRAMES
        washing = [voice for voice in self._voices if voice.wash_until > start]
        if not washing:
            return
        score, notes = self._score, np.array([voice.note for voice in washing])
        felt_s = np.maximum(score.sustain.at(time_s) - score.onset_contact_s[notes, None], 0.0)
        left = np.exp(-2 * WASH_DAMPER_RATE * felt_s).astype(np.float32)
        left *= np.array([[voice.wash] for voice in washing], np.float32)
        for voice, part in zip(washing, left, strict=True):
            low, high = slow_frames(voice.noise_first, voice.wash_until, start, len(powers))
            if high > low:
                first, phase = divmod(start + low * SLOW - voice.noise_first, SLOW)
                add_power(powers[low:high], self._tables.wash[phase], first, self._noise.even, part[low:high])
                if part[high - 1] < 1e-4 * voice.wash:
                    voice.wash_until = 0

    def _move_pedal(self, end: int) -> None:
        """The noises of the sustain pedal before a block's end."""
        moves, bus = self._score.pedal_noises, self._noise
        while self._n_pedal_noises < len(moves) and moves[self._n_pedal_noises][0] * self._rate_hz < end:
            time_s, is_down = moves[self._n_pedal_noises]
            self._n_pedal_noises += 1
            noise = self._tables.pedal(down=is_down)
            if noise is not None:
                bus.add(bus.frame_at(int(time_s * self._rate_hz)), noise)

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
                part = np.full(len(noise), score.release_part[note], np.float32)
                bus.add(first_frame, noise, part=part)

    def _strike(self, note: int) -> tuple[Voice, Float32Array, Float32Array]:
        """A note's voice, the gains of its partials and those of its knock."""
        score, hop, onset = self._score, self._hop, int(self._onset[note])
        table, velocity = self._tables[int(score.pitch[note])], int(score.velocity[note])
        gain, noise_gain, silence_db = table.gain[velocity], table.noise_gain[velocity], table.silence_db[velocity]
        knock_gain, soft = table.knock_gain[velocity], float(score.soft[note])
        wash = float(score.open_part[note]) * 10 ** (table.lasts.peak_db[velocity] / 10)
        if soft > 0:
            gain = gain * una_corda_gain(table.frequency_hz, soft)
            noise_gain = noise_gain * np.float32(10 ** (-0.3 * soft))
            silence_db = SILENCE_DB - 20 * np.log10(gain + 1e-9)
            knock_gain = knock_gain * np.float32(10 ** (-0.1 * soft))
            wash *= 10 ** (-0.2 * soft)
        n_wash = self._tables.n_wash if 10 * math.log10(wash + 1e-12) + WASH_DB > SILENCE_DB else 0
        partials, noise = self._silent_after[:, note].tolist()
        clock, noise_first = -(-onset // hop), self._noise.frame_at(onset)
        since = clock * hop - onset  # samples from a frame of the note to the next one of the clock
        turn = np.exp(table.frequency_hz * (2j * math.pi * since / self._rate_hz)).astype(np.complex64) * gain
        voice = Voice(
            note=note,
            table=table,
            silence_db=silence_db,
            clock=clock,
            first=taken_over(onset, table, hop),
            until=clock + max(1, partials // hop),
            turn=np.stack((turn * np.float32(1 - since / hop), turn * table.back * np.float32(since / hop))),
            noise_gain=noise_gain,
            noise_first=noise_first,
            noise_until=noise_first + max(1, noise // self._noise.hop),
            wash=wash,
            wash_until=noise_first + n_wash,
        )
        return voice, gain, knock_gain
