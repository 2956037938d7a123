"""Which of a fixed number of voices plays which pitch: the published models' allocation, frame by frame and causal.

The rule, of lrenault/ddsp-piano: past the number of voices the lowest pitches are left out; a voice keeps its pitch while it
sounds; new pitches, lowest first, take the next free voice after the one given last, around and around. Knows no time and no
velocities, so a file and a live keyboard use the same code.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

_FREE = 0  # no playable pitch is 0


class VoiceAllocator:
    """The voices after the frames stepped through so far."""

    def __init__(self, n_voices: int) -> None:
        self.pitches: list[int] = [_FREE] * n_voices  #: MIDI pitch of each voice, 0: silent
        self._sounding: list[int] = []  # ascending, with those past the number of voices
        self._next_voice = 0  # a free one; -1: none is free

    @property
    def left_out(self) -> list[int]:
        """The pitches that sound but have no voice, ascending."""
        return self._sounding[: max(0, len(self._sounding) - len(self.pitches))]

    def step(self, ended: Iterable[int], started: Iterable[int]) -> None:
        """Go to a frame in which these pitches sound no more and those begin to sound.

        A pitch that is struck again while it sounds is in neither.
        """
        sounding = self._sounding
        was_full = len(sounding) > len(self.pitches)
        ended, started = list(ended), sorted(started)
        for pitch in ended:
            del sounding[bisect_left(sounding, pitch)]
        for pitch in started:
            insort(sounding, pitch)
        if was_full or len(sounding) > len(self.pitches):
            wanted = sounding[-len(self.pitches) :]
            ended = [pitch for pitch in self.pitches if pitch != _FREE and pitch not in wanted]
            started = [pitch for pitch in wanted if pitch not in self.pitches]
        if ended:
            freed = [self.pitches.index(pitch) for pitch in ended]
            for voice in freed:
                self.pitches[voice] = _FREE
            if self._next_voice < 0:
                self._next_voice = min(freed)
        for pitch in started:
            self.pitches[self._next_voice] = pitch
            self._advance()

    def _advance(self) -> None:
        """Point at the next free voice."""
        if _FREE not in self.pitches:
            self._next_voice = -1
            return
        n_voices = len(self.pitches)
        voice = (self._next_voice + 1) % n_voices
        while self.pitches[voice] != _FREE:
            voice = (voice + 1) % n_voices
        self._next_voice = voice
