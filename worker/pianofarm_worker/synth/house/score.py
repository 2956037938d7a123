"""A performance as a house model plays it: per note its onset, strength and damping. No tables, no sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance
from pianofarm_worker.synth.house import dampers
from pianofarm_worker.synth.house.resonance import ANSWER_S, openness

FloatArray = NDArray[np.float64]

#: Keys a piano has.
LOWEST_PITCH, HIGHEST_PITCH = 21, 108


@dataclass(frozen=True)
class Score:
    """Notes by onset, and the pedal they share. Damping is in nepers: a string's amplitude is exp(-damping)."""

    onset_s: FloatArray  #: [n_notes], rising
    onset_contact_s: FloatArray  #: [n_notes], the sustain pedal's integral then
    pitch: NDArray[np.int_]  #: [n_notes], 21..108
    velocity: NDArray[np.int_]  #: [n_notes], 1..127
    soft: FloatArray  #: [n_notes], una corda, 0..1
    open_part: FloatArray  #: [n_notes], how far the sustain pedal is down at the onset, 0..1
    damper_rate: FloatArray  #: [n_notes], nepers a second under a resting damper
    damped_from_s: FloatArray  #: [n_notes], when the damper may fall
    damped_from_contact_s: FloatArray  #: [n_notes], the pedal's integral at that time
    released_s: FloatArray  #: [n_notes], when the key goes up
    release_part: FloatArray  #: [n_notes], how much of the release noise is heard, a part of its power
    restruck_s: FloatArray  #: [n_notes], when the same key is struck again, or infinity
    sustain: dampers.Contact
    is_pedalled: bool  #: the sustain pedal is off the dampers at some time
    pedal_noises: list[tuple[float, bool]]  #: when the sustain pedal is heard itself, and whether it goes down then
    end_s: float  #: where the performance ends: all keys and pedals up
    dropped_notes: int  #: notes outside the keyboard

    def damping(self, notes: NDArray[np.int_], time_s: FloatArray, contact_s: FloatArray) -> FloatArray:
        """Nepers that felt and hammer have taken from notes by these times. [n_notes, n_times]

        Args:
            notes: [n_notes], indices.
            time_s: [n_notes or 1, n_times].
            contact_s: the same shape, the sustain pedal's integral then.
        """
        felt_s = np.maximum(contact_s - self.damped_from_contact_s[notes, None], 0.0)
        restruck_s = np.maximum(time_s - self.restruck_s[notes, None], 0.0)
        return np.asarray(self.damper_rate[notes, None] * felt_s + dampers.RESTRIKE_RATE * restruck_s)

    def kept(self, notes: NDArray[np.int_], time_s: FloatArray, contact_s: FloatArray) -> NDArray[np.float32]:
        """What that leaves of them, a factor of their amplitudes; arguments and shape as of `damping`."""
        return np.exp(-self.damping(notes, time_s, contact_s).astype(np.float32))

    def openness(self, notes: NDArray[np.int_], time_s: FloatArray, contact_s: FloatArray) -> NDArray[np.float32]:
        """How far the other strings answer notes, see `resonance.openness`; arguments and result as of `kept`."""
        earlier_s = np.maximum(self.sustain.at(time_s - ANSWER_S), self.onset_contact_s[notes, None])
        return openness(time_s, self.onset_s[notes, None], contact_s, earlier_s)

    def damped_by(self, nepers: FloatArray) -> FloatArray:
        """When each note has lost this much; infinity where it never does. [n_notes]

        Args:
            nepers: [n_notes], > 0.
        """
        start = self.damped_from_contact_s
        with np.errstate(divide="ignore"):
            by_felt = self.sustain.reaches(start + nepers / self.damper_rate)
        by_felt = np.where(self.damper_rate > 0, by_felt, np.inf)
        return np.minimum(by_felt, self.restruck_s + nepers / dampers.RESTRIKE_RATE)


def make_score(performance: Performance, duration_s: float | None) -> Score:
    """Prepare a performance.

    Args:
        performance: notes and pedals.
        duration_s: where to cut it; notes that begin later are left out, those that sound are released.
    """
    end_s = performance.duration_s if duration_s is None else min(duration_s, performance.duration_s)
    sustain = dampers.sustain_contact(performance, max(end_s, 0.0))
    pitch = performance.pitch.astype(int)
    on_keyboard = (pitch >= LOWEST_PITCH) & (pitch <= HIGHEST_PITCH)
    played = on_keyboard & (performance.onset_s < end_s)
    order = np.flatnonzero(played)[np.argsort(performance.onset_s[played], kind="stable")]
    damped_from_s = dampers.damped_from_s(performance, sustain, end_s)
    restruck = dampers.restruck_s(performance)
    released_s = np.where(performance.offset_s <= end_s, performance.offset_s, np.inf)
    return Score(
        onset_s=performance.onset_s[order],
        onset_contact_s=sustain.at(performance.onset_s[order]),
        pitch=pitch[order],
        velocity=performance.velocity.astype(int)[order],
        soft=dampers.soft_parts(performance)[order],
        open_part=dampers.open_parts(performance)[order],
        damper_rate=dampers.damper_rate(pitch[order]),
        released_s=released_s[order],
        release_part=dampers.release_part(performance, pitch)[order],
        damped_from_s=damped_from_s[order],
        damped_from_contact_s=sustain.at(damped_from_s[order]),
        restruck_s=np.where(restruck < end_s, restruck, np.inf)[order],
        sustain=sustain,
        is_pedalled=bool((np.diff(sustain.integral_s) < np.diff(sustain.time_s) - 1e-6).any()),
        pedal_noises=dampers.pedal_noises(performance, end_s),
        end_s=end_s,
        dropped_notes=int((~on_keyboard).sum()),
    )
