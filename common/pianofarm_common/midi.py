"""MIDI in: bytes or a PrettyMIDI -> validated performance (notes, pedals), within limits, with a canonical form to hash.

The public door. How bytes become events is in `smf`, how events become notes and parts in `parts`; no synthesis here.
pretty_midi is the interchange type: both ways of reading give the same performance, to the last bit of every time.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadMidi, LimitExceeded
from pianofarm_common.parts import PEDAL_CONTROLS, count_note_ons, read_parts
from pianofarm_common.smf import read_events

if TYPE_CHECKING:
    import pretty_midi

    from pianofarm_common.settings import Settings

_RESOLUTION = 960  # ticks a quarter note at 120 a minute in `to_pretty_midi`: 0.52 ms


@dataclass(frozen=True)
class MidiLimits:
    """What is refused before anything is allocated."""

    max_bytes: int
    max_duration_s: float
    max_notes: int
    max_tracks: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The limits that the environment sets (`PIANOFARM_MIDI_MAX_...`)."""
        return cls(
            max_bytes=settings.midi_max_bytes,
            max_duration_s=settings.midi_max_duration_s,
            max_notes=settings.midi_max_notes,
            max_tracks=settings.midi_max_tracks,
        )


def _all_in_part_0() -> NDArray[np.uint32]:
    return np.zeros(0, np.uint32)


@dataclass(frozen=True, eq=False)
class Performance:
    """What a pianist did: notes and pedals, times in seconds from the start of the file.

    Notes are sorted by onset, then pitch; controls by time. Percussion is left out and counted.

    A part is what one track plays on one channel with one program, often a hand. The published models let a sustain pedal
    hold the notes of its own part only; a model that has one pedal for all ignores the parts.
    """

    onset_s: NDArray[np.float64]  #: [n_notes]
    offset_s: NDArray[np.float64]  #: [n_notes], key up (not damper down), > onset
    pitch: NDArray[np.uint8]  #: [n_notes], 0..127
    velocity: NDArray[np.uint8]  #: [n_notes], 1..127
    control_s: NDArray[np.float64]  #: [n_controls]
    control_number: NDArray[np.uint8]  #: [n_controls], 64 sustain, 65 portamento, 66 sostenuto, 67 soft
    control_value: NDArray[np.uint8]  #: [n_controls], 0..127
    percussion_notes: int = 0  #: notes on MIDI channel 10, dropped
    note_part: NDArray[np.uint32] = field(default_factory=_all_in_part_0)  #: [n_notes]; left out: all in part 0
    control_part: NDArray[np.uint32] = field(default_factory=_all_in_part_0)  #: [n_controls]; likewise

    def __post_init__(self) -> None:
        if len(self.note_part) != len(self.pitch):
            object.__setattr__(self, "note_part", np.zeros(len(self.pitch), np.uint32))
        if len(self.control_part) != len(self.control_s):
            object.__setattr__(self, "control_part", np.zeros(len(self.control_s), np.uint32))

    def n_notes(self, until_s: float | None = None) -> int:
        """How many notes begin before this time, in seconds; None: all."""
        return len(self.onset_s) if until_s is None else int(np.count_nonzero(self.onset_s < until_s))

    @property
    def duration_s(self) -> float:
        """End of the last note, in seconds; 0 without notes."""
        return float(self.offset_s.max()) if len(self.offset_s) else 0.0

    @cached_property
    def sha256(self) -> str:
        """Digest of the canonical form, 64 hex digits: the same for any file that plays the same notes and pedals.

        File type, order of events, running status, names, percussion and other controllers do not matter; the parts do,
        and their order, as both can be heard.
        """
        columns = (
            (self.onset_s, "<f8"),
            (self.offset_s, "<f8"),
            (self.pitch, "u1"),
            (self.velocity, "u1"),
            (self.note_part, "<u4"),
            (self.control_s, "<f8"),
            (self.control_number, "u1"),
            (self.control_value, "u1"),
            (self.control_part, "<u4"),
        )
        digest = hashlib.sha256(b"pianofarm performance 1")
        digest.update(struct.pack("<QQ", len(self.onset_s), len(self.control_s)))
        for column, dtype in columns:
            digest.update(np.ascontiguousarray(column, dtype).data)
        return digest.hexdigest()


def read_performance(data: bytes, limits: MidiLimits) -> Performance:
    """Read a Standard MIDI File of type 0 or 1.

    Raises:
        BadMidi: broken, of type 2, or without a note for the piano; the message names the byte.
        LimitExceeded: too large, too many tracks or notes, too long; the message names the setting.
    """
    events = read_events(data, max_bytes=limits.max_bytes, max_tracks=limits.max_tracks)
    n_notes = count_note_ons(events)
    if n_notes > limits.max_notes:
        raise _too_many_notes(n_notes, limits)
    parts = read_parts(events)
    performance = _performance(
        onset_s=events.clock.seconds(events.tick[parts.note_on]),
        offset_s=events.clock.seconds(events.tick[parts.note_off]),
        pitch=events.data1[parts.note_on],
        velocity=events.data2[parts.note_on],
        note_part=parts.note_part,
        control_s=events.clock.seconds(events.tick[parts.control]),
        control_number=events.data1[parts.control],
        control_value=events.data2[parts.control],
        control_part=parts.control_part,
        percussion_notes=parts.percussion_notes,
    )
    _check(performance, limits, n_unfinished=n_notes - len(parts.note_on) - parts.percussion_notes)
    return performance


def from_pretty_midi(midi: pretty_midi.PrettyMIDI, limits: MidiLimits | None = None) -> Performance:
    """The performance that a PrettyMIDI holds; its times are taken as they are, not rounded to ticks.

    Raises:
        BadMidi: no note for the piano, or a note, pedal or time that MIDI has no room for.
        LimitExceeded: too many notes or too long, where limits are given.
    """
    pianos = [instrument for instrument in midi.instruments if not instrument.is_drum and instrument.notes]
    notes = [(n.start, n.end, n.pitch, n.velocity, k) for k, part in enumerate(pianos) for n in part.notes]
    pedals = [
        (c.time, c.number, c.value, k)
        for k, part in enumerate(pianos)
        for c in part.control_changes
        if c.number in PEDAL_CONTROLS
    ]
    note = np.array(notes, np.float64).reshape(-1, 5)
    pedal = np.array(pedals, np.float64).reshape(-1, 4)
    times = np.concatenate((note[:, :2].ravel(), pedal[:, 0]))
    if not np.all(np.isfinite(times)) or np.any(times < 0):
        raise BadMidi(f"a time of {times[~(np.isfinite(times) & (times >= 0))][0]} s: times begin at 0 and are finite")
    for what, value, low, high in (
        ("pitch", note[:, 2], 0, 127),
        ("velocity", note[:, 3], 1, 127),
        ("pedal value", pedal[:, 2], 0, 127),
    ):
        wrong = (value != np.floor(value)) | (value < low) | (value > high)
        if np.any(wrong):
            raise BadMidi(f"a {what} of {value[wrong][0]:g}: whole numbers from {low} to {high} are allowed")
    performance = _performance(
        onset_s=note[:, 0],
        offset_s=note[:, 1],
        pitch=note[:, 2],
        velocity=note[:, 3],
        note_part=note[:, 4],
        control_s=pedal[:, 0],
        control_number=pedal[:, 1],
        control_value=pedal[:, 2],
        control_part=pedal[:, 3],
        percussion_notes=sum(len(instrument.notes) for instrument in midi.instruments if instrument.is_drum),
    )
    _check(performance, limits, n_unfinished=0)
    return performance


def to_pretty_midi(performance: Performance) -> pretty_midi.PrettyMIDI:
    """A PrettyMIDI with an instrument (acoustic grand piano) for each part; writing it rounds times to 0.52 ms."""
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(resolution=_RESOLUTION, initial_tempo=120.0)
    n_parts = int(max(performance.note_part.max(initial=0), performance.control_part.max(initial=0))) + 1
    midi.instruments = [pretty_midi.Instrument(program=0, name=f"part {k + 1}") for k in range(n_parts)]
    for onset_s, offset_s, pitch, velocity, part in zip(
        performance.onset_s.tolist(),
        performance.offset_s.tolist(),
        performance.pitch.tolist(),
        performance.velocity.tolist(),
        performance.note_part.tolist(),
        strict=True,
    ):
        midi.instruments[part].notes.append(pretty_midi.Note(velocity, pitch, onset_s, offset_s))
    for time_s, number, value, part in zip(
        performance.control_s.tolist(),
        performance.control_number.tolist(),
        performance.control_value.tolist(),
        performance.control_part.tolist(),
        strict=True,
    ):
        midi.instruments[part].control_changes.append(pretty_midi.ControlChange(number, value, time_s))
    return midi


def _performance(
    *,
    onset_s: NDArray[np.float64],
    offset_s: NDArray[np.float64],
    pitch: NDArray[np.generic],
    velocity: NDArray[np.generic],
    note_part: NDArray[np.generic],
    control_s: NDArray[np.float64],
    control_number: NDArray[np.generic],
    control_value: NDArray[np.generic],
    control_part: NDArray[np.generic],
    percussion_notes: int,
) -> Performance:
    """Columns in any order that keeps the order within a part -> the sorted performance."""
    by_note = np.lexsort((note_part, pitch, onset_s))
    by_time = np.lexsort((control_part, control_number, control_s))
    onset_s = onset_s[by_note]
    return Performance(
        onset_s=onset_s,
        # At a tempo of microseconds or hours into a file two ticks may round to one time; such a note still sounds.
        offset_s=np.maximum(offset_s[by_note], np.nextafter(onset_s, np.inf)),
        pitch=pitch[by_note].astype(np.uint8),
        velocity=velocity[by_note].astype(np.uint8),
        control_s=control_s[by_time],
        control_number=control_number[by_time].astype(np.uint8),
        control_value=control_value[by_time].astype(np.uint8),
        percussion_notes=percussion_notes,
        note_part=note_part[by_note].astype(np.uint32),
        control_part=control_part[by_time].astype(np.uint32),
    )


def _too_many_notes(n_notes: int, limits: MidiLimits) -> LimitExceeded:
    return LimitExceeded(f"{n_notes} notes, more than {limits.max_notes} (PIANOFARM_MIDI_MAX_NOTES raises the limit)")


def _check(performance: Performance, limits: MidiLimits | None, *, n_unfinished: int) -> None:
    """Refuse what holds nothing to play, or too much of it."""
    if len(performance.pitch) == 0:
        reasons = []
        if performance.percussion_notes:
            reasons.append(f"{performance.percussion_notes} notes are percussion (channel 10)")
        if n_unfinished > 0:
            reasons.append(f"{n_unfinished} note-on events have no note-off at a later tick")
        raise BadMidi("no note for a piano in this MIDI" + (": " + ", ".join(reasons) if reasons else ""))
    if limits is None:
        return
    if len(performance.pitch) > limits.max_notes:
        raise _too_many_notes(len(performance.pitch), limits)
    end_s = max(performance.duration_s, float(performance.control_s.max(initial=0.0)))
    if end_s > limits.max_duration_s:
        raise LimitExceeded(
            f"{end_s:.1f} s of music, more than {limits.max_duration_s:.1f} s "
            "(PIANOFARM_MIDI_MAX_DURATION_S raises the limit)"
        )
