"""PublishedStream: a published model played live. Puts notes, networks and synthesizers together; nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.dry_wet import mixed
from pianofarm_worker.synth.events import SUSTAIN, Control, Event, EventQueue, NoteOff, NoteOn
from pianofarm_worker.synth.live_partials import LivePartials
from pianofarm_worker.synth.live_room import LiveRoom
from pianofarm_worker.synth.noise import FilteredNoise
from pianofarm_worker.synth.partials import PartialTables
from pianofarm_worker.synth.published.conditioning import HIGHEST_PITCH, LOWEST_PITCH
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.live_network import CONTEXT_WEIGHT_S, MEMORY_S, VOICE_WEIGHT_S, LiveNetwork
from pianofarm_worker.synth.published.live_notes import LiveNotes
from pianofarm_worker.synth.stream import Stream

#: Silence before a stream, in which the networks settle; a render has the same by default.
_WARM_UP_S = 0.5
_BUILT_IN_S = 10.0

#: Frames a block in which they do: those of a block of 8 ms, the usual one, so that it needs no other program.
_SETTLE_FRAMES = 2


@dataclass(frozen=True)
class LiveParts:
    """What the streams of one piano share."""

    config: PublishedConfig
    release_s: float
    network: LiveNetwork
    partials: PartialTables
    room: NDArray[np.float32]  #: [n_samples, 1] impulse response, the dry sound in it

    @cached_property
    def start(self) -> NDArray[np.float32]:
        """State of the networks in which every stream starts: settled in silence, with the moments of a built-in performance.

        The same whatever the blocks of the stream, so that they cannot be heard.
        """
        return _settled(self)


class PublishedStream(Stream):
    """dafx22, maestro-v2 or ENSTDkCl, live. Delay: one frame (4 ms), as a frame's sound is half a frame to either side."""

    def __init__(self, parts: LiveParts, *, block_ms: int, seed: int, room_part: float = 1.0) -> None:
        """Start in silence. The first stream of a piano and a length of blocks compiles its program and takes a second or two.

        Args:
            parts: of the piano.
            block_ms: length of a block, 4 to 40 ms in steps of 4.
            seed: of the noise, 0 .. 2**64 - 1.
            room_part: how much of the room is heard, 0 .. 2.

        Raises:
            BadOption: no block of this length, or no such part of the room.
        """
        config = parts.config
        super().__init__(
            sample_rate_hz=config.sample_rate_hz,
            n_channels=1,
            block_ms=block_ms,
            delay_samples=config.hop,
            seed=seed,
            room=room_part,
        )
        self._n_frames = self.block_samples // config.hop
        self._frame_rate_hz, self._network = config.frame_rate_hz, parts.network
        self._state: Any = parts.start
        for pitch in range(LOWEST_PITCH, HIGHEST_PITCH + 1):
            parts.partials.basis(pitch)  # tabulated now rather than when the key is first played
        self._weights_s = np.array([CONTEXT_WEIGHT_S, VOICE_WEIGHT_S])
        self._notes = LiveNotes(config.n_voices, parts.release_s, config.frame_rate_hz)
        self._partials = LivePartials(parts.partials, config.n_voices)
        self._noise = FilteredNoise(config.synthesis.n_noise_bands, config.hop, seed)
        self._noise.push(np.zeros((1, config.synthesis.n_noise_bands), np.float32))  # it holds back a frame, as they do
        self._room = LiveRoom(parts.room, self.block_samples)

    def _make_block(self) -> NDArray[np.float32]:
        notes, pitch, pedal = self._notes.frames(self._queue, self._n_frames)
        self.dropped_notes = self._notes.dropped_notes
        gains = np.zeros((self._n_frames, 2), np.float32)
        for frame in np.flatnonzero(pitch.any(axis=1)).tolist():
            self._weights_s = np.minimum(self._weights_s + 1 / self._frame_rate_hz, MEMORY_S)
            gains[frame] = 1 / (self._weights_s * self._frame_rate_hz)
        amplitudes, power, self._state = self._network.run(notes, pitch, pedal, gains, self._state)
        dry = self._partials.push(pitch, amplitudes)
        dry += self._noise.push(np.sqrt(power))
        return mixed(self._room.push(dry[:, None]), dry[:, None], self._room_part)


def _settled(parts: LiveParts) -> NDArray[np.float32]:
    """Play the built-in performance for its moments, then silence with them, in which the networks come to rest.

    Silence before there are moments would not do: the voices' network does not forget for many seconds what it heard first, and a
    stream that had heard a context normalised by no moments was 7 dB too quiet for as long as it was listened to.
    """
    config, network = parts.config, parts.network

    def play(state: Any, events: list[Event], duration_s: float, *, counts: bool) -> Any:
        notes, queue = LiveNotes(config.n_voices, parts.release_s, config.frame_rate_hz), EventQueue()
        for event in events:
            queue.push(event, 0.0)
        gains = np.zeros((_SETTLE_FRAMES, 2), np.float32)
        for first in range(0, int(duration_s * config.frame_rate_hz), _SETTLE_FRAMES):
            if counts:
                gains[:] = np.float32(1) / np.arange(first + 1, first + _SETTLE_FRAMES + 1, dtype=np.float32)[:, None]
            _, _, state = network.run(*notes.frames(queue, _SETTLE_FRAMES), gains, state)
        return state

    at_zero = network.initial_state()
    played = play(at_zero, _built_in(), _BUILT_IN_S, counts=True)
    at_rest = play(network.starting_state(at_zero, played), [], _WARM_UP_S, counts=False)
    return network.starting_state(at_rest, played)


def _built_in() -> list[Event]:
    """Ten seconds of broken chords over the middle five octaves, neither loud nor soft, half of them under the pedal."""
    events: list[Event] = []
    roots = (48, 45, 41, 43, 40, 45, 50, 43)
    for bar, root in enumerate(roots):
        start_s = bar * _BUILT_IN_S / len(roots)
        for place, interval in enumerate((-12, 0, 7, 12, 16, 19, 24, 28, 19, 16)):
            pitch, time_s = root + interval, start_s + 0.125 * place
            events.append(NoteOn(pitch, 45 + (7 * place + 11 * bar) % 50, time_s))
            events.append(NoteOff(pitch, time_s + (0.7 if interval < 0 else 0.2)))
        if bar % 2:
            events += [Control(SUSTAIN, 127, start_s + 0.05), Control(SUSTAIN, 0, start_s + 1.2)]
    return events
