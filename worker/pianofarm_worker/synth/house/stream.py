"""HouseStream: our own model played live. What it plays is what `engine` plays, hop by hop, for events that come one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.dry_wet import mixed
from pianofarm_worker.synth.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    RESET_CONTROLLERS,
    Control,
    Event,
    NoteOff,
    NoteOn,
)
from pianofarm_worker.synth.house import dampers
from pianofarm_worker.synth.house.key_table import SILENCE_DB, STRIDE, KeyTable, between, out_of_phases, out_of_strides
from pianofarm_worker.synth.house.live_pedals import LivePedals, LiveString
from pianofarm_worker.synth.house.noise_bus import NoiseBus
from pianofarm_worker.synth.house.resonance import WASH_DAMPER_RATE, WASH_DB
from pianofarm_worker.synth.house.score import HIGHEST_PITCH, LOWEST_PITCH
from pianofarm_worker.synth.house.slow_noise import NOISE_FRAMES
from pianofarm_worker.synth.house.strikes import NEPER_DB
from pianofarm_worker.synth.house.tables import KeyTables
from pianofarm_worker.synth.live_room import LiveRoom
from pianofarm_worker.synth.stream import Stream

Float32Array = NDArray[np.float32]

#: Hops for which a note's amplitudes are laid out, with as many partials as are audible when they begin; a multiple of STRIDE.
ROWS = 64

_PEDALS = (dampers.SUSTAIN, dampers.SOSTENUTO, dampers.SOFT)


@dataclass
class _Voice:
    """A note that sounds."""

    pitch: int
    table: KeyTable
    string: LiveString
    gain: Float32Array  #: [n_partials]
    silence_db: Float32Array  #: [n_partials], levels at velocity 127 that are just not heard
    noise_gain: Float32Array  #: [n_bands], power
    to_lose: float  #: nepers after which it is silent
    onset: int  #: sample
    n_hops: int  #: until its partials are silent
    n_noise: int  #: frames of noise
    knock_gain: Float32Array  #: [N_GROUPS]
    wash: float  #: power of the wash
    wash_from_contact_s: float  #: the pedal's integral at the onset
    n_wash: int  #: frames of the wash
    next_hop: int = 0
    next_noise: int = 0
    next_knock: int = 0
    next_wash: int = 0
    openness: float = 0.0  #: how far the other strings answered at the frame before the next hop
    kept: float = 1.0  #: what damping left of the frame before the next hop
    #: [ROWS + 1, n_channels, n_audible], of the frames from the last multiple of `ROWS` on
    amplitude: NDArray[np.complex64] = field(default_factory=lambda: np.zeros((0, 0, 0), np.complex64))
    answer: Float32Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))  #: [ROWS + 1, n_audible]
    basis: Float32Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))  #: [2 n_audible, hop]


class HouseStream(Stream):
    """The house piano, live: onsets exact to the sample, any number of notes, no delay."""

    def __init__(
        self,
        tables: KeyTables,
        room: Float32Array,
        output_gain: np.float32,
        *,
        block_ms: int,
        seed: int,
        room_part: float = 1.0,
    ) -> None:
        """Start in silence. The first stream of a model makes the tables of all keys, which takes a second.

        Args:
            tables: of the model.
            room: [n_samples, n_channels], the response without the direct sound.
            output_gain: linear.
            block_ms: length of a block, 4 to 40 ms in steps of 4.
            seed: of the noise, 0 .. 2**64 - 1.
            room_part: how much of the room is heard, 0 .. 2.

        Raises:
            BadOption: no block of this length, or no such part of the room.
        """
        layout = tables.layout
        super().__init__(
            sample_rate_hz=layout.sample_rate_hz,
            n_channels=room.shape[1],
            block_ms=block_ms,
            delay_samples=0,
            seed=seed,
            room=room_part,
        )
        self._tables, self._hop, self._output_gain = tables, layout.hop, output_gain
        for pitch in range(LOWEST_PITCH, HIGHEST_PITCH + 1):
            tables.prepare(pitch)
        self._pedals = LivePedals()
        self._sustain_is_down = False
        tone = tables.tone
        self._noise = NoiseBus(layout, self.n_channels, seed, None if tone is None else tone[: self.n_channels])
        self._room = LiveRoom(room, self.block_samples)
        self._voices: list[_Voice] = []
        self._keys_down: set[int] = set()
        self._sound = np.zeros((self.n_channels, self.block_samples + self._hop), np.float32)

    def _make_block(self) -> Float32Array:
        block, sound = self.block_samples, self._sound
        start, end = self._n_pulled, self._n_pulled + block
        sound[:, : self._hop] = sound[:, block:]
        sound[:, self._hop :] = 0
        while self._queue.next_s() * self.sample_rate_hz < end - 0.5:
            self._take(*self._queue.pop())
        for voice in self._voices:
            while voice.next_hop < voice.n_hops and voice.onset + voice.next_hop * self._hop < end:
                at = voice.onset + voice.next_hop * self._hop - start
                sound[:, at : at + self._hop] += self._next_hop(voice)
            self._add_noise(voice, end)
            self._add_knock(voice, end)
            self._add_wash(voice, end)
        self._voices = [voice for voice in self._voices if not _is_over(voice)]
        self._pedals.strings = [voice.string for voice in self._voices]
        dry = (sound[:, :block] + self._noise.play(start, block)).T * self._output_gain
        if not self._voices:
            self._noise.tone_from = None
        return mixed(dry + self._room.push(dry), dry, self._room_part)

    def _take(self, time_s: float, event: Event) -> None:
        match event:
            case NoteOn(pitch, velocity) if velocity > 0:
                self._strike(pitch, velocity, time_s)
            case NoteOn(pitch) | NoteOff(pitch):
                self._release(pitch, time_s)
            case Control(number, value) if number in _PEDALS:
                self._move(number, value, time_s)
            case Control(number) if number in (ALL_NOTES_OFF, ALL_SOUND_OFF, RESET_CONTROLLERS):
                if number != ALL_NOTES_OFF:
                    for pedal in _PEDALS:
                        self._move(pedal, 0, time_s)
                if number != RESET_CONTROLLERS:
                    for pitch in sorted(self._keys_down):
                        self._release(pitch, time_s)

    def _move(self, number: int, value: int, time_s: float) -> None:
        """A pedal moves; the sustain pedal is heard itself."""
        if number == dampers.SUSTAIN:
            was_down, self._sustain_is_down = self._sustain_is_down, value >= dampers.NOISY_VALUE
            noise = self._tables.pedal(down=self._sustain_is_down) if was_down != self._sustain_is_down else None
            if noise is not None:
                self._noise.add(self._noise.frame_at(int(time_s * self.sample_rate_hz)), noise)
        self._pedals.move(number, value, time_s)

    def _strike(self, pitch: int, velocity: int, time_s: float) -> None:
        if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
            self.dropped_notes += 1
            return
        for voice in self._voices:
            if voice.pitch == pitch and voice.string.restruck_s == math.inf:
                voice.string.restruck_s = time_s
        table, soft = self._tables[pitch], self._pedals.soft
        gain, noise_gain, silence_db, knock_gain = table.struck(velocity, soft)
        wash = (1.0 - self._pedals.force()) * 10 ** (table.lasts.peak_db[velocity] / 10 - 0.2 * soft)
        voice = _Voice(
            pitch=pitch,
            table=table,
            string=self._pedals.strike(pitch),
            gain=gain,
            silence_db=silence_db,
            noise_gain=noise_gain,
            to_lose=max(table.lasts.peak_db[velocity] - SILENCE_DB, 1.0) / NEPER_DB,
            onset=round(time_s * self.sample_rate_hz),
            n_hops=table.lasts.n_frames[velocity] - 1,
            n_noise=table.lasts.n_noise_frames[velocity],
            knock_gain=knock_gain,
            wash=wash,
            wash_from_contact_s=self._pedals.contact_s(time_s),
            n_wash=self._tables.n_wash if 10 * math.log10(wash + 1e-12) + WASH_DB > SILENCE_DB else 0,
        )
        if self._noise.tone_from is None:
            self._noise.tone_from = self._noise.frame_at(voice.onset)
        self._voices.append(voice)
        self._keys_down.add(pitch)

    def _release(self, pitch: int, time_s: float) -> None:
        """A key goes up; nothing happens where it was not down."""
        if pitch not in self._keys_down:
            return
        self._keys_down.remove(pitch)
        for voice in self._voices:
            if voice.pitch == pitch and voice.string.released_s == math.inf:
                self._pedals.release(voice.string, time_s)
        noise = self._tables.release(pitch)
        if noise is not None:
            first_frame = self._noise.frame_at(int(time_s * self.sample_rate_hz))
            force = self._pedals.force() * (pitch <= dampers.HIGHEST_DAMPED_PITCH)
            self._noise.add(first_frame, noise, part=np.full(len(noise), 0.25 + 0.75 * force, np.float32))

    def _next_hop(self, voice: _Voice) -> Float32Array:
        """[n_channels, hop] float32: the partials of a voice from its next frame to the one after."""
        hop, table = voice.next_hop, voice.table
        if hop % ROWS == 0:
            self._choose_partials(voice)
        voice.next_hop += 1
        before, was_open = voice.kept, voice.openness
        row, n = hop % ROWS, voice.amplitude.shape[2]
        # A frame hears of pedals and keys one hop late, as in the engine.
        taken = self._pedals.taken(voice.string, (voice.onset + hop * self._hop) / self.sample_rate_hz)
        voice.kept = math.exp(-taken)
        onset_s = voice.onset / self.sample_rate_hz
        voice.openness = self._pedals.openness(onset_s, onset_s + hop * self._hop / self.sample_rate_hz)
        if taken > voice.to_lose:
            voice.n_hops = voice.next_hop
            voice.n_noise = min(voice.n_noise, voice.n_hops * self._hop // self._noise.hop)
        if n == 0:
            return np.zeros((self.n_channels, self._hop), np.float32)
        amplitude = voice.amplitude[row : row + 2]
        if was_open or voice.openness:
            answered = voice.answer[row : row + 2] * np.array([[was_open], [voice.openness]], np.float32)
            amplitude = amplitude * (answered + np.float32(1))[:, None]
        # The falling half of this frame's grain and the rising half of the next one's: `grains.halves` for one hop.
        rows = np.empty((2, self.n_channels, 2 * n), np.float32)
        np.multiply(amplitude[0].real, np.float32(before), out=rows[0, :, :n])
        np.multiply(amplitude[0].imag, np.float32(-before), out=rows[0, :, n:])
        np.multiply(amplitude[1].real, np.float32(voice.kept), out=rows[1, :, :n])
        np.multiply(amplitude[1].imag, np.float32(voice.kept), out=rows[1, :, n:])
        falling, rising = (rows.reshape(-1, 2 * n) @ voice.basis).reshape(2, self.n_channels, -1)
        falling[:, 1:] += rising[:, :0:-1]
        if hop < len(table.rise):
            falling *= table.rise[hop]
        sound: Float32Array = falling
        return sound

    def _add_knock(self, voice: _Voice, end: int) -> None:
        """The knock's part of a block."""
        low, high = voice.next_knock, min(voice.table.knock.shape[2], end - voice.onset)
        if high <= low:
            return
        voice.next_knock = high
        at = voice.onset + low - self._n_pulled
        for channel in range(self.n_channels):
            self._sound[channel, at : at + high - low] += voice.knock_gain @ voice.table.knock[channel, :, low:high]

    def _add_wash(self, voice: _Voice, end: int) -> None:
        """The wash's part of a block, until felt has silenced it."""
        bus = self._noise
        first_frame = bus.frame_at(voice.onset)
        low, high = voice.next_wash, min(voice.n_wash, bus.n_frames_before(end) - first_frame)
        if high <= low:
            return
        voice.next_wash = high
        hops = np.arange(low, high) // NOISE_FRAMES - 1
        felt_s = [
            self._pedals.contact_s((voice.onset + hop * self._hop) / self.sample_rate_hz) - voice.wash_from_contact_s
            for hop in hops.tolist()
        ]
        power = voice.wash * np.exp(-2 * WASH_DAMPER_RATE * np.maximum(felt_s, 0.0))
        if power[-1] < 1e-4 * voice.wash:
            voice.next_wash = voice.n_wash
        frame = np.arange(low, high)
        bus.add(first_frame + low, out_of_phases(self._tables.wash, frame), part=power.astype(np.float32))

    def _choose_partials(self, voice: _Voice) -> None:
        """Those of a voice that are still heard; the engine asks as often."""
        lost_db = -20 * math.log10(voice.kept + 1e-9)
        table, first = voice.table, voice.next_hop // STRIDE
        audible = np.flatnonzero(table.later_db[first] > voice.silence_db + lost_db)
        n = int(audible[-1]) + 1 if len(audible) else 0
        these = slice(first, first + ROWS // STRIDE), slice(self.n_channels), slice(n)
        voice.amplitude = out_of_strides(table.amplitude[these], table.step[these]) * voice.gain[:n]
        answer = table.answer[first : first + ROWS // STRIDE + 1, :n]
        voice.answer = between(answer)
        voice.basis = np.concatenate((table.basis.cosine[:n], table.basis.sine[:n]))

    def _add_noise(self, voice: _Voice, end: int) -> None:
        """The noise powers of a voice up to a block's end."""
        bus = self._noise
        first_frame = bus.frame_at(voice.onset)
        low, high = voice.next_noise, min(voice.n_noise, bus.n_frames_before(end) - first_frame)
        if high <= low:
            return
        voice.next_noise = high
        kept_power = np.ones(high - low, np.float32)
        for row in range(high - low):
            hop = (low + row) // NOISE_FRAMES - 1
            taken = self._pedals.taken(voice.string, (voice.onset + hop * self._hop) / self.sample_rate_hz)
            if taken > 0:
                kept_power[row] = math.exp(-2 * taken)
        frame = np.arange(low, high)
        bus.add(first_frame + low, out_of_phases(voice.table.noise, frame), voice.noise_gain, kept_power)


def _is_over(voice: _Voice) -> bool:
    """Nothing of it is left to play."""
    return (
        voice.next_hop >= voice.n_hops
        and voice.next_noise >= voice.n_noise
        and voice.next_wash >= voice.n_wash
        and voice.next_knock >= voice.table.knock.shape[2]
    )
