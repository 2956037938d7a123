"""What is known of every note before it is struck: when, how strongly, until when; and the voice it then is. No sound here."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.house.attack import taken_over
from pianofarm_worker.synth.house.key_table import SILENCE_DB
from pianofarm_worker.synth.house.noise_bus import NoiseBus
from pianofarm_worker.synth.house.resonance import WASH_DB
from pianofarm_worker.synth.house.score import Score
from pianofarm_worker.synth.house.slow_noise import slow_from
from pianofarm_worker.synth.house.tables import KeyTables
from pianofarm_worker.synth.house.voices import Voice

Float32Array = NDArray[np.float32]

#: Decibels in a neper of amplitude.
NEPER_DB = 8.685889638


class Strikes:
    """The notes of a score by onset, with all that can be computed of many at once."""

    def __init__(self, tables: KeyTables, score: Score, noise: NoiseBus) -> None:
        """Make the tables of all keys that are played.

        Args:
            tables: of the model.
            score: what to play.
            noise: whose frames the notes' noise comes in.
        """
        self._tables, self._rate_hz, self._hop = tables, tables.layout.sample_rate_hz, tables.layout.hop
        #: Sample of each note's onset. [n_notes]
        self.onset = np.round(score.onset_s * self._rate_hz).astype(np.int64)
        self._onset = self.onset.tolist()
        self._noise_first = [noise.frame_at(onset) for onset in self._onset]
        self._pitch, self._velocity, self._soft = score.pitch.tolist(), score.velocity.tolist(), score.soft.tolist()
        lasts = [tables[pitch].lasts for pitch in self._pitch]
        notes = list(zip(lasts, self._velocity, strict=True))
        peak_db = np.array([last.peak_db[velocity] for last, velocity in notes])
        self._wash = (score.open_part * 10 ** (peak_db / 10 - 0.2 * score.soft)).tolist()
        # Died away, or damped.
        to_lose = np.maximum(peak_db - SILENCE_DB, 1.0) / NEPER_DB
        damped_s = np.maximum(score.damped_by(to_lose) - score.onset_s, 0.0)
        damped = np.minimum(damped_s * self._rate_hz, 1e12).astype(np.int64) + 2 * self._hop
        n_hops = np.array([last.n_frames[velocity] - 1 for last, velocity in notes], np.int64)
        n_noise = np.array([last.n_noise_frames[velocity] for last, velocity in notes], np.int64)
        partials, noises = np.minimum(n_hops * self._hop, damped), np.minimum(n_noise * noise.hop, damped)
        #: Sample at which the last note is silent.
        self.end = int((self.onset + np.maximum(partials, noises)).max(initial=0))
        self._n_hops, self._n_noise = (partials // self._hop).tolist(), (noises // noise.hop).tolist()

    def voice(self, note: int) -> Voice:
        """A note as it begins to sound."""
        table = self._tables[self._pitch[note]]
        gain, noise_gain, silence_db, knock_gain = table.struck(self._velocity[note], self._soft[note])
        onset, hop, noise_first, wash = self._onset[note], self._hop, self._noise_first[note], self._wash[note]
        clock = -(-onset // hop)
        turn = np.empty((2, len(gain)), np.complex64)
        _turn(turn, table.frequency_hz, table.back, gain, clock * hop - onset, hop, self._rate_hz)
        return Voice(
            note=note,
            table=table,
            gain=gain,
            knock_gain=knock_gain,
            silence_db=silence_db,
            clock=clock,
            first=taken_over(onset, table, hop),
            until=clock + max(1, self._n_hops[note]),
            turn=turn,
            noise_gain=noise_gain,
            noise_first=noise_first,
            slow_from=slow_from(noise_first),
            noise_until=noise_first + max(1, self._n_noise[note]),
            wash=wash,
            wash_until=noise_first
            + (self._tables.n_wash if 10 * math.log10(wash + 1e-12) + WASH_DB > SILENCE_DB else 0),
        )


@compiled
def _turn(
    turn: NDArray[np.complex64],
    frequency_hz: NDArray[np.float64],
    back: NDArray[np.complex64],
    gain: Float32Array,
    since: int,
    hop: int,
    rate_hz: int,
) -> None:
    """What frames of the common clock take of a note's own frames, turned to the time between them.

    Args:
        turn: [2, n_partials], of the frame before and of the one after; overwritten.
        frequency_hz: [n_partials].
        back: [n_partials], turns back by one hop.
        gain: [n_partials].
        since: samples from one of its own frames to the next one of the clock.
        hop: samples between frames.
        rate_hz: samples a second.
    """
    part = np.float32(since / hop)
    for k in range(len(gain)):
        angle = 2 * math.pi * frequency_hz[k] * since / rate_hz
        found = np.complex64(complex(math.cos(angle), math.sin(angle))) * gain[k]
        turn[0, k] = found * (np.float32(1) - part)
        turn[1, k] = found * back[k] * part
