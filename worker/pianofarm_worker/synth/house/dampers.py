"""Pedals and keys -> when each string is free and when felt lies on it. Times in seconds; no sound here.

The recordings hold no damped notes, so the laws below are not learned: the times are those of a concert grand's dampers as
its players describe them, and the tests hold them to what the pedals must do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance

FloatArray = NDArray[np.float64]

SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67

#: Sustain pedal values from which no felt touches a string, and up to which all of it does; half-pedalling lies between.
LIFTED_VALUE, RESTING_VALUE = 64, 24

#: The pedal makes its noise as it passes this value.
NOISY_VALUE = 44

#: Strings of the keys above this one have no dampers.
HIGHEST_DAMPED_PITCH = 88

_NEPERS_60_DB = 6.9078

#: A string struck again loses its earlier vibration at this rate (T60 0.25 s), nepers a second.
RESTRIKE_RATE = _NEPERS_60_DB / 0.25


def damper_rate(pitch: NDArray[np.integer]) -> FloatArray:
    """How fast a resting damper stops a string, nepers a second: T60 0.5 s from C4 up, 1.5 s at A0; no dampers above E6."""
    t60_s = 4 * (0.12 + 0.25 * np.maximum(0, (60 - pitch.astype(float)) / 40))
    return np.where(pitch > HIGHEST_DAMPED_PITCH, 0.0, _NEPERS_60_DB / t60_s)


def contact(value: NDArray[np.integer]) -> FloatArray:
    """Part of the damper's force at a sustain pedal value: 1 at rest, 0 lifted, falling as a square between."""
    part = np.clip((LIFTED_VALUE - value.astype(float)) / (LIFTED_VALUE - RESTING_VALUE), 0.0, 1.0)
    return np.asarray(part**2)


@dataclass(frozen=True)
class Contact:
    """The time integral of the sustain pedal's contact, piecewise linear."""

    time_s: FloatArray  #: [n_points], rising
    integral_s: FloatArray  #: [n_points]

    def at(self, time_s: NDArray[np.floating]) -> FloatArray:
        """Integral at times; after the last point as it goes on there."""
        return np.asarray(np.interp(time_s, self.time_s, self.integral_s))

    def reaches(self, integral_s: FloatArray) -> FloatArray:
        """First time at which the integral is at least this."""
        at = np.minimum(np.searchsorted(self.integral_s, integral_s), len(self.time_s) - 1)
        low = np.maximum(at - 1, 0)
        rise = np.maximum(self.integral_s[at] - self.integral_s[low], 1e-12)
        part = np.clip((integral_s - self.integral_s[low]) / rise, 0.0, 1.0)
        return np.asarray(self.time_s[low] + part * (self.time_s[at] - self.time_s[low]))


def control_steps(performance: Performance, number: int) -> tuple[FloatArray, NDArray[np.int_]]:
    """Times and values of one controller, from 0 s on, where it is up."""
    of_it = performance.control_number == number
    times = np.concatenate([[0.0], performance.control_s[of_it]])
    return times, np.concatenate([[0], performance.control_value[of_it].astype(int)])


def sustain_contact(performance: Performance, end_s: float) -> Contact:
    """The sustain pedal of a performance, at rest from `end_s` on."""
    times, values = control_steps(performance, SUSTAIN)
    before = times < end_s
    times = np.concatenate([times[before], [end_s, end_s + 1e6]])
    force = np.concatenate([contact(values[before]), [1.0]])
    return Contact(times, np.concatenate([[0.0], np.cumsum(force * np.diff(times))]))


def pedal_noises(performance: Performance, end_s: float) -> list[tuple[float, bool]]:
    """When the sustain pedal is heard itself, and whether it goes down then."""
    times, values = control_steps(performance, SUSTAIN)
    is_down = values >= NOISY_VALUE
    changes = np.flatnonzero(is_down[1:] != is_down[:-1]) + 1
    return [(float(times[index]), bool(is_down[index])) for index in changes if times[index] < end_s]


def damped_from_s(performance: Performance, sustain: Contact, end_s: float) -> FloatArray:
    """When each note's damper may fall: key up, or later where the sostenuto pedal caught it. [n_notes]

    The sostenuto pedal catches the dampers that are up when it goes down: keys held, and strings the sustain pedal has kept
    free since their keys went up.
    """
    released = np.minimum(performance.offset_s, end_s)
    damped_from = released.copy()
    times, values = control_steps(performance, SOSTENUTO)
    down = values >= 64
    for index in np.flatnonzero(down[1:] & ~down[:-1]) + 1:
        up_again = np.flatnonzero(~down[index:])
        release_s = min(float(times[index + up_again[0]]) if len(up_again) else end_s, end_s)
        pressed_s = float(times[index])
        free = sustain.at(np.full(len(released), pressed_s)) - sustain.at(released) <= 1e-9
        caught = (performance.onset_s <= pressed_s) & ((released > pressed_s) | free)
        damped_from = np.where(caught, np.maximum(damped_from, release_s), damped_from)
    return damped_from


def release_part(performance: Performance, pitch: NDArray[np.integer]) -> FloatArray:
    """Part of the release noise's power that is heard: all of it where a damper falls, a quarter where only the key rises."""
    times, values = control_steps(performance, SUSTAIN)
    force = contact(values[np.searchsorted(times, performance.offset_s, side="right") - 1])
    return np.asarray(0.25 + 0.75 * force * (pitch <= HIGHEST_DAMPED_PITCH))


def restruck_s(performance: Performance) -> FloatArray:
    """When the same key is struck again; infinity where it is not. [n_notes]"""
    again = np.full(len(performance.onset_s), np.inf)
    for pitch in np.unique(performance.pitch):
        of_it = np.flatnonzero(performance.pitch == pitch)
        again[of_it[:-1]] = performance.onset_s[of_it[1:]]
    return again


def soft_parts(performance: Performance) -> FloatArray:
    """How far the soft pedal is down at each onset, 0..1. [n_notes]"""
    times, values = control_steps(performance, SOFT)
    return np.asarray(values[np.searchsorted(times, performance.onset_s, side="right") - 1] / 127.0)


def open_parts(performance: Performance) -> FloatArray:
    """How far the sustain pedal has lifted the dampers at each onset, 0..1. [n_notes]"""
    times, values = control_steps(performance, SUSTAIN)
    return 1.0 - contact(values[np.searchsorted(times, performance.onset_s, side="right") - 1])


def una_corda_gain(frequency_hz: FloatArray, part: float) -> NDArray[np.float32]:
    """What the soft pedal takes: 2 dB, and 1.2 dB more an octave of brightness; linear, by frequency."""
    return np.asarray(10 ** (-part * (2.0 + 1.2 * np.log2(1 + frequency_hz / 500.0)) / 20), np.float32)
