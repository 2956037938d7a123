"""From a score to sound, block by block and causally: what a block holds depends on nothing that happens after it.

Every note begins at its own sample, with frames of its own (`attack`); some milliseconds later it goes over to frames that all
notes share, whose partials are summed by few large matrix products (`bundles`). The noise of all notes goes, as power, to one bus.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.attack import MOST_FRAMES, add_attack
from pianofarm_worker.synth.house.bundles import Bundles
from pianofarm_worker.synth.house.knock import add_knock
from pianofarm_worker.synth.house.layout import NOISE_ONSET, SLOW
from pianofarm_worker.synth.house.noise_bus import NoiseBus
from pianofarm_worker.synth.house.resonance import WASH_DAMPER_RATE
from pianofarm_worker.synth.house.score import Score
from pianofarm_worker.synth.house.slow_noise import NOISE_FRAMES, add_onset, add_slow
from pianofarm_worker.synth.house.strikes import Strikes
from pianofarm_worker.synth.house.tables import KeyTables
from pianofarm_worker.synth.house.voices import Laws, Voice

Float32Array = NDArray[np.float32]

#: Hops of a block; at the start of each is decided which partials are still heard. Longer ones sum more silence, shorter ones cost
#: more calls.
BLOCK_HOPS = 128

#: Hops for which a note's damping is known when it is struck.
_EARLY_HOPS = max(MOST_FRAMES, -(-(NOISE_ONSET + 2 * SLOW) // NOISE_FRAMES) + 1)


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
        tone = tables.tone
        self._noise = NoiseBus(layout, n_channels, seed, None if tone is None else tone[:n_channels])
        self._strikes = Strikes(tables, score, self._noise)
        if len(score.pitch):
            self._noise.tone_from = self._noise.frame_at(int(self._strikes.onset[0]))
        self._bundles = Bundles(n_channels, BLOCK_HOPS, layout.sample_rate_hz, layout.hop)
        self._n_pedal_noises = 0
        self._voices: list[Voice] = []
        self._n_started = 0
        released = np.argsort(score.released_s, kind="stable")  # notes by when their keys go up
        self._released = released.tolist()
        self._released_at = (score.released_s[released] * self._rate_hz).tolist()
        self._n_released = 0

    @property
    def end(self) -> int:
        """Sample at which the last note is silent."""
        return self._strikes.end

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

    def _strike_until(self, end: int, sound: Float32Array, start: int) -> None:
        """Begin the notes before a block's end: their attacks and knocks go to the sound that begins with the block."""
        onset = self._strikes.onset
        until = int(np.searchsorted(onset, end))
        notes = np.arange(self._n_started, until)
        if not len(notes):
            return
        self._n_started = until
        time_s = (onset[notes, None] + np.arange(-1, _EARLY_HOPS - 1) * self._hop) / self._rate_hz
        laws = self._laws(notes, time_s)
        for row, (note, at) in enumerate(zip(notes.tolist(), (onset[notes] - start).tolist(), strict=True)):
            voice = self._strikes.voice(note)
            self._voices.append(voice)
            add_attack(sound, at, voice, laws.weight(row, voice.table.answer), start + at)
            add_onset(self._noise, voice, laws.kept[row])
            add_knock(sound, at, voice.knock_gain, voice.table.knock)

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
        noise_begin = begin * NOISE_FRAMES
        notes = np.array([voice.note for voice in self._voices], int)
        time_s = (np.arange(begin - 1, begin + BLOCK_HOPS) * hop)[None] / self._rate_hz
        laws = self._laws(notes, time_s)
        kept_power = laws.kept[:, :: SLOW // NOISE_FRAMES] ** 2
        powers = np.zeros((kept_power.shape[1], self._n_channels, self._tables.layout.bands.n_bands), np.float32)
        for row, voice in enumerate(self._voices):
            table = voice.table
            low, high = max(voice.first + 1, begin), min(voice.until, begin + BLOCK_HOPS + 1)
            if high > low:
                frames, own, weight = (
                    slice(low - begin, high - begin),
                    low - voice.clock,
                    laws.weight(row, table.answer),
                )
                heard = table.later_db, voice.silence_db
                self._bundles.add(table.shapes, table.amplitude, table.step, voice.turn, *heard, weight, own, frames)
            if voice.noise_until > noise_begin:
                since, until = noise_begin - voice.noise_first, voice.noise_until - noise_begin
                slow_low = voice.slow_from + SLOW - noise_begin
                add_slow(powers, table.noise, since, slow_low, until, voice.noise_gain, kept_power[row])
        self._add_washes(noise_begin, time_s[:, :: SLOW // NOISE_FRAMES], powers)
        self._noise.add_slow(noise_begin, powers)
        end, noise_end = begin + BLOCK_HOPS, noise_begin + BLOCK_HOPS * NOISE_FRAMES
        self._voices = [voice for voice in self._voices if not voice.is_over(end, noise_end)]
        return self._bundles.play().reshape(self._n_channels, -1)

    def _add_washes(self, begin: int, time_s: NDArray[np.float64], powers: Float32Array) -> None:
        """The washes in a block's slow frames, until felt has silenced them.

        Args:
            begin: the first of these, in frames of noise.
            time_s: [1, n_slow], when they hear of the pedal.
            powers: [n_slow, n_channels, n_bands], what to add to.
        """
        washing = [voice for voice in self._voices if voice.wash_until > begin]
        if not washing:
            return
        score, notes = self._score, np.array([voice.note for voice in washing])
        felt_s = np.maximum(score.sustain.at(time_s) - score.onset_contact_s[notes, None], 0.0)
        left = np.exp(-2 * WASH_DAMPER_RATE * felt_s).astype(np.float32)
        left *= np.array([[voice.wash] for voice in washing], np.float32)
        wash, even = self._tables.wash, self._noise.even
        for voice, part in zip(washing, left, strict=True):
            since = begin - voice.noise_first
            add_slow(powers, wash, since, -since, voice.wash_until - begin, even, part)
            if part[-1] < 1e-4 * voice.wash:
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
        while self._n_released < len(self._released) and self._released_at[self._n_released] < end:
            note, at = self._released[self._n_released], self._released_at[self._n_released]
            self._n_released += 1
            noise = self._tables.release(int(score.pitch[note]))
            if noise is not None:
                bus.add(bus.frame_at(int(at)), noise, part=np.full(len(noise), score.release_part[note], np.float32))
