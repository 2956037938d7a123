"""Keys and pedals of a live house piano -> what felt and hammer take from each string; the laws are those of `dampers`.

Times in seconds of the stream, never falling. A score knows when a key will go up; here it happens. No sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pianofarm_worker.synth.house import dampers, resonance

_DOWN = 64

#: The pedal's past is forgotten after this long: no block looks back so far.
_REMEMBERED_S = 1.0


@dataclass
class LiveString:
    """The strings of one note."""

    rate: float  #: nepers a second under a resting damper
    released_s: float = math.inf
    damped_from_s: float = math.inf
    damped_from_contact_s: float = 0.0
    restruck_s: float = math.inf
    is_caught: bool = False  #: by the sostenuto pedal


class LivePedals:
    """Sustain, sostenuto and soft pedal, and the strings they act on."""

    def __init__(self) -> None:
        self.soft = 0.0  #: how far the soft pedal is down, 0..1
        self.is_pedalled = False  #: the sustain pedal has been off the dampers
        self._sustain = [(0.0, 0.0, 1.0)]  # from this time on: contact's integral there, contact
        self._sostenuto_is_down = False
        self.strings: list[LiveString] = []  #: of the notes that may sound

    def strike(self, pitch: int) -> LiveString:
        """New strings, free until their key goes up."""
        string = LiveString(float(dampers.damper_rate(np.array([pitch]))[0]))
        self.strings.append(string)
        return string

    def release(self, string: LiveString, time_s: float) -> None:
        """The key goes up; where no pedal holds it, the damper falls."""
        string.released_s = time_s
        if not string.is_caught:
            self._damp(string, time_s)

    def move(self, number: int, value: int, time_s: float) -> None:
        """A pedal moves."""
        if number == dampers.SOFT:
            self.soft = value / 127.0
        elif number == dampers.SUSTAIN:
            recent = [point for point in self._sustain if point[0] > time_s - _REMEMBERED_S]
            before = self._sustain[-len(recent) - 1 : len(self._sustain) - len(recent)]
            force = float(dampers.contact(np.array([value]))[0])
            self._sustain = [*before, *recent, (time_s, self.contact_s(time_s), force)]
            self.is_pedalled |= force < 1
        elif number == dampers.SOSTENUTO:
            was_down, self._sostenuto_is_down = self._sostenuto_is_down, value >= _DOWN
            if self._sostenuto_is_down and not was_down:
                self._catch(time_s)
            elif was_down and not self._sostenuto_is_down:
                self._let_go(time_s)

    def openness(self, onset_s: float, time_s: float) -> float:
        """How far the other strings answer a note; see `resonance.openness`."""
        if not self.is_pedalled:
            return 0.0
        earlier_s = max(time_s - resonance.ANSWER_S, onset_s)
        felt_s = self.contact_s(time_s) - self.contact_s(earlier_s)
        return min(max(time_s - earlier_s - max(felt_s, 0.0), 0.0) / resonance.ANSWER_S, 1.0)

    def force(self) -> float:
        """Part of the dampers' force that the sustain pedal leaves, 0..1."""
        return self._sustain[-1][2]

    def taken(self, string: LiveString, time_s: float) -> float:
        """Nepers that felt and hammer have taken from a string by a time that is past."""
        taken = 0.0
        if string.rate > 0 and time_s > string.damped_from_s:
            taken = string.rate * max(self.contact_s(time_s) - string.damped_from_contact_s, 0.0)
        if time_s > string.restruck_s:
            taken += dampers.RESTRIKE_RATE * (time_s - string.restruck_s)
        return taken

    def contact_s(self, time_s: float) -> float:
        """The integral of the sustain pedal's contact."""
        for start_s, integral_s, force in reversed(self._sustain):
            if start_s <= time_s:
                return integral_s + force * (time_s - start_s)
        return self._sustain[0][1]

    def _damp(self, string: LiveString, time_s: float) -> None:
        string.damped_from_s, string.damped_from_contact_s = time_s, self.contact_s(time_s)

    def _catch(self, time_s: float) -> None:
        """The sostenuto pedal catches the dampers that are up: of keys held, and of strings the sustain pedal kept free."""
        for string in self.strings:
            is_held = string.released_s == math.inf
            is_free = not is_held and self.contact_s(time_s) - string.damped_from_contact_s <= 1e-9
            if is_held or is_free:
                string.is_caught = True
                string.damped_from_s = math.inf

    def _let_go(self, time_s: float) -> None:
        for string in self.strings:
            if string.is_caught:
                string.is_caught = False
                if string.released_s < math.inf:
                    self._damp(string, time_s)
