"""Events -> what the published models read, frame by frame and causally; `conditioning` does the same for a file. No networks.

The arrays are those of a file with one part, but for one frame: in a file the frame before a pitch is struck again already marks
the onset, with the velocity of the note before. Nobody can know that live without waiting 4 ms more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    RESET_CONTROLLERS,
    SUSTAIN,
    Control,
    EventQueue,
    NoteOff,
    NoteOn,
)
from pianofarm_worker.synth.published.conditioning import HIGHEST_PITCH, LOWEST_PITCH
from pianofarm_worker.synth.published.voices import VoiceAllocator

_FIRST_PEDAL, _N_PEDALS = 64, 4
_DOWN = 64
_NEVER = 1 << 62


@dataclass
class _Note:
    """A pitch that sounds; its key is down or the pedal holds it."""

    velocity: float  #: 0..1
    start: int  #: frame
    end: int = _NEVER  #: frame in which it sounds no more
    is_down: bool = True
    was_dropped: bool = False


class LiveNotes:
    """Keys, pedals and voices of a stream after the frames given so far."""

    def __init__(self, n_voices: int, release_s: float, frame_rate_hz: int) -> None:
        """Start with all keys up.

        Args:
            n_voices: notes that can sound at once.
            release_s: how long a voice keeps its pitch after its note.
            frame_rate_hz: frames a second.
        """
        self._n_release = int(release_s * frame_rate_hz + 1e-3) + 1
        self._rate_hz = frame_rate_hz
        self._frame = 0
        self._notes: dict[int, _Note] = {}  # by pitch
        self._started: list[int] = []
        self._struck: list[int] = []  # in the last two frames
        self._next_end = _NEVER
        self._pedal_is_down = False
        self._allocator = VoiceAllocator(n_voices)
        self._voice_pitch = np.zeros(n_voices, np.uint8)
        self._held_pitch = np.zeros(n_voices, np.uint8)  # goes on through the release
        self._silent_from = np.zeros(n_voices, np.int64)  # frame after the release; _NEVER while the note sounds
        self.dropped_notes = 0  #: notes without a key or a voice for a frame or more

    def frames(
        self, queue: EventQueue, n_frames: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
        """The next frames.

        Returns:
            notes [n_frames, n_voices, 2], active pitch and onset velocity; pitch [n_frames, n_voices], prolonged by the
            release; pedal [n_frames, 4]. As `Conditioning` and `extend_pitch` describe them.
        """
        n_voices = len(self._voice_pitch)
        notes = np.zeros((n_frames, n_voices, 2), np.float32)
        pitch = np.empty((n_frames, n_voices), np.uint8)
        pedal = np.zeros((n_frames, _N_PEDALS), np.float32)
        for row in range(n_frames):
            while queue.next_s() * self._rate_hz < self._frame + 1:
                self._take(*queue.pop(), pedal[row])
            if self._started or self._next_end <= self._frame:
                self._allocate()
            notes[row, :, 0] = self._voice_pitch
            if self._struck:
                self._mark_onsets(notes[row, :, 1])
            self._held_pitch[self._silent_from <= self._frame] = 0
            pitch[row] = self._held_pitch
            self._frame += 1
        return notes, pitch, pedal

    def _take(self, time_s: float, event: object, pedal: NDArray[np.float32]) -> None:
        match event:
            case NoteOn(pitch, velocity) if velocity > 0:
                self._strike(pitch, velocity)
            case NoteOn(pitch) | NoteOff(pitch):
                self._release(pitch, time_s)
            case Control(number, value) if _FIRST_PEDAL <= number < _FIRST_PEDAL + _N_PEDALS:
                pedal[number - _FIRST_PEDAL] = (value + 1) / 128
                if number == SUSTAIN:
                    self._move_pedal(value >= _DOWN, time_s)
            case Control(number) if number == ALL_NOTES_OFF:
                for pitch in self._notes:
                    self._release(pitch, time_s)
            case Control(number) if number in (ALL_SOUND_OFF, RESET_CONTROLLERS):
                if self._pedal_is_down:
                    pedal[0] = 1 / 128
                self._move_pedal(False, time_s)
                if number == ALL_SOUND_OFF:
                    for pitch in self._notes:
                        self._release(pitch, time_s)

    def _strike(self, pitch: int, velocity: int) -> None:
        if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
            self.dropped_notes += 1
            return
        if pitch not in self._notes:
            self._started.append(pitch)
        self._notes[pitch] = _Note(float(np.float32(velocity / 127)), self._frame)
        self._struck.append(pitch)

    def _release(self, pitch: int, time_s: float) -> None:
        note = self._notes.get(pitch)
        if note is not None and note.is_down:
            note.is_down = False
            if not self._pedal_is_down:
                self._end(note, time_s)

    def _move_pedal(self, is_down: bool, time_s: float) -> None:
        self._pedal_is_down = is_down
        if not is_down:
            for note in self._notes.values():
                if not note.is_down and note.end == _NEVER:
                    self._end(note, time_s)

    def _end(self, note: _Note, time_s: float) -> None:
        note.end = max(note.start + 1, self._frame, math.ceil(time_s * self._rate_hz))
        self._next_end = min(self._next_end, note.end)

    def _allocate(self) -> None:
        """Give voices to the notes that start in this frame, take them from those that end."""
        ended = [pitch for pitch, note in self._notes.items() if note.end <= self._frame]
        for pitch in ended:
            del self._notes[pitch]
        self._next_end = min((note.end for note in self._notes.values()), default=_NEVER)
        # A note that starts in the frame in which its pitch ends goes on sounding: it is in neither list.
        self._allocator.step(ended, self._started)
        self._started = []
        for pitch in self._allocator.left_out:
            note = self._notes[pitch]
            self.dropped_notes += not note.was_dropped
            note.was_dropped = True
        voices = np.array(self._allocator.pitches, np.uint8)
        ends = (self._voice_pitch > 0) & (voices == 0)
        self._silent_from[ends] = self._frame + self._n_release
        sounds = voices > 0
        self._silent_from[sounds] = _NEVER
        self._held_pitch[sounds] = voices[sounds]
        self._voice_pitch = voices

    def _mark_onsets(self, velocity: NDArray[np.float32]) -> None:
        """Onset velocities of this frame [n_voices]: of the notes struck in it or in the one before."""
        voices = self._allocator.pitches
        kept = []
        for pitch in self._struck:
            note = self._notes.get(pitch)
            if note is None or self._frame - note.start > 1:
                continue
            kept.append(pitch)
            if pitch in voices:
                velocity[voices.index(pitch)] = note.velocity
        self._struck = kept
