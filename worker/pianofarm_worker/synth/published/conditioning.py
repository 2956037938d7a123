"""Performance -> what the published models read: 16 voices of (pitch, onset velocity) and 4 pedals, 250 times a second.

Bit-equal to the original (lrenault/ddsp-piano on note_seq's piano roll), but the work is per note, not per frame and key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance
from pianofarm_worker.synth import long_arrays
from pianofarm_worker.synth.published.sustain import sustain
from pianofarm_worker.synth.published.voices import VoiceAllocator

LOWEST_PITCH, HIGHEST_PITCH = 21, 108  # the keys of a piano; others are left out
_FIRST_PEDAL, _N_PEDALS = 64, 4

#: Written of the notes before they are let go (`long_arrays`).
_FRAMES_AT_A_TIME, _ONSETS_AT_A_TIME = 20_000, 20_000


@dataclass(frozen=True)
class Conditioning:
    """The input of a published model, warm-up frames in front."""

    notes: NDArray[np.float32]  #: [n_frames, n_voices, 2], MIDI pitch (0: silent) and onset velocity 0..1
    pedal: NDArray[np.float32]  #: [n_frames, 4], controls 64..67: (value + 1) / 128 in the frame of a movement, else 0
    dropped_notes: (
        int  #: notes left out for one frame or more: past the number of voices, or beyond the keys of a piano
    )

    @property
    def n_frames(self) -> int:
        """Frames, warm-up and tail included."""
        return len(self.notes)


@dataclass(frozen=True)
class _Spans:
    """Notes of the piano in frames, ordered by pitch, then onset; as columns [n_notes]."""

    pitch: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]  #: > start
    velocity: NDArray[np.float32]  #: 0..1
    reach: NDArray[np.int64]  #: the latest end among this and earlier notes of its pitch


def conditioning(
    performance: Performance,
    *,
    n_voices: int = 16,
    frame_rate_hz: int = 250,
    warm_up_s: float = 0.0,
    duration_s: float | None = None,
    tail_s: float = 0.0,
) -> Conditioning:
    """Convert a performance.

    Args:
        performance: notes and pedals; the sustain pedals prolong notes.
        n_voices: notes that can sound at once.
        frame_rate_hz: frames a second.
        warm_up_s: silence in front, for the recurrent networks to settle.
        duration_s: cut or pad to this; None: the end of the last note, rounded up to a whole second.
        tail_s: silence after that.
    """
    sounding = sustain(performance)
    n_roll = int(sounding.total_s * frame_rate_hz + 1)
    n_warm_up, n_tail = int(warm_up_s * frame_rate_hz), int(tail_s * frame_rate_hz)
    n_music = int(math.ceil(sounding.total_s) * frame_rate_hz if duration_s is None else duration_s * frame_rate_hz)
    on_piano = (performance.pitch >= LOWEST_PITCH) & (performance.pitch <= HIGHEST_PITCH)
    heard = np.flatnonzero(on_piano & sounding.is_note)
    start = (performance.onset_s[heard] * frame_rate_hz).astype(np.int64)
    end = np.maximum(start + 1, np.ceil(sounding.end_s[heard] * frame_rate_hz).astype(np.int64))
    spans = _spans(performance.pitch[heard], start, end, performance.velocity[heard])

    notes = long_arrays.zeros((n_warm_up + n_music + n_tail, n_voices, 2), np.float32)
    music = notes[n_warm_up : n_warm_up + n_music]
    dropped = _fill_pitches(music[..., 0], spans, n_voices)
    _fill_velocities(music, spans)
    pedal = long_arrays.zeros((len(notes), _N_PEDALS), np.float32)
    _fill_pedal(pedal[n_warm_up : n_warm_up + min(n_music, n_roll)], performance, frame_rate_hz)
    beyond = ~on_piano & (performance.onset_s * frame_rate_hz < n_music)
    return Conditioning(notes, pedal, dropped + int(np.count_nonzero(beyond)))


def _spans(
    pitch: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], velocity: NDArray[np.uint8]
) -> _Spans:
    order = np.argsort(pitch, kind="stable")
    pitch_of, start, end = pitch[order].astype(np.int64), start[order], end[order]
    # A running maximum that begins anew with every pitch: lift each pitch above everything of the one before.
    lift = pitch_of * (int(end.max(initial=0)) + 1)
    reach = np.maximum.accumulate(end + lift) - lift
    return _Spans(pitch_of, start, end, (velocity[order] / 127).astype(np.float32), reach)


def _fill_pitches(pitches: NDArray[np.float32], spans: _Spans, n_voices: int) -> int:
    """Write the pitch of every voice into [n_frames, n_voices]; returns how many notes were left out somewhere."""
    n_frames = len(pitches)
    if len(spans.pitch) == 0 or n_frames == 0:
        return 0
    # Notes of one pitch that touch or overlap sound as one: keep where such a run begins and ends.
    new_pitch = np.concatenate(([True], spans.pitch[1:] != spans.pitch[:-1]))
    begins = new_pitch | np.concatenate(([True], spans.start[1:] > spans.reach[:-1]))
    first = np.flatnonzero(begins)
    last = np.concatenate((first[1:], [len(begins)])) - 1
    frame = np.concatenate((spans.start[first], spans.reach[last]))
    pitch = np.concatenate((spans.pitch[first], spans.pitch[first]))
    is_start = np.arange(len(frame)) < len(first)
    chosen = np.flatnonzero(frame < n_frames)
    chosen = chosen[np.lexsort((pitch[chosen], frame[chosen]))]

    voices = VoiceAllocator(n_voices)
    changes = bytearray(voices.pitches)  # the voices after each change, one after the other
    change_frames = [0]
    unheard: dict[int, int] = {}  # pitch -> frame since which it has no voice
    silences: list[tuple[int, int, int]] = []  # pitch, first frame, frame after the last
    events = list(zip(frame[chosen].tolist(), pitch[chosen].tolist(), is_start[chosen].tolist(), strict=True))
    events.append((n_frames, 0, False))
    now = events[0][0]
    ended: list[int] = []
    started: list[int] = []
    for when, what, starts in events:
        if when != now:
            voices.step(ended, started)
            change_frames.append(now)
            changes += bytes(voices.pitches)
            left_out = voices.left_out
            if left_out or unheard:
                silences += [(key, since, now) for key, since in unheard.items() if key not in left_out]
                unheard = {key: unheard.get(key, now) for key in left_out}
            now, ended, started = when, [], []
        (started if starts else ended).append(what)
    silences += [(key, since, n_frames) for key, since in unheard.items()]
    held, held_from = np.frombuffer(changes, np.uint8).reshape(-1, n_voices), np.array(change_frames)
    for at in range(0, n_frames, _FRAMES_AT_A_TIME):
        frames = np.arange(at, min(at + _FRAMES_AT_A_TIME, n_frames))
        pitches[at : at + len(frames)] = held[np.searchsorted(held_from, frames, side="right") - 1]
        long_arrays.let_go(pitches)
    return _count_silenced(spans, silences)


def _count_silenced(spans: _Spans, silences: list[tuple[int, int, int]]) -> int:
    """How many notes overlap a time at which their pitch had no voice."""
    if not silences:
        return 0
    pitch, since, until = np.array(sorted(silences), np.int64).T
    lift = int(max(spans.end.max(), until.max())) + 1
    begun = np.searchsorted(pitch * lift + since, spans.pitch * lift + spans.end, side="left")
    over = np.searchsorted(pitch * lift + until, spans.pitch * lift + spans.start, side="right")
    return int(np.count_nonzero(begun > over))


def _fill_velocities(music: NDArray[np.float32], spans: _Spans) -> None:
    """Write onset velocities into [n_frames, n_voices, 2], whose pitches are there.

    An onset is three frames wide, from the one before the note; each shows the velocity of the latest note that sounds in it,
    which in the first of them is the note before, if there is one.
    """
    n_notes = len(spans.pitch)
    if n_notes == 0:
        return
    frame = (spans.start[:, None] + np.array([-1, 0, 1])).ravel()
    pitch = np.repeat(spans.pitch, 3)
    inside = (frame >= 0) & (frame < len(music))
    frame, pitch = frame[inside], pitch[inside]
    lift = int(spans.end.max()) + 2
    latest = np.searchsorted(spans.pitch * lift + spans.start, pitch * lift + frame, side="right") - 1
    exists = (latest >= 0) & (spans.pitch[latest] == pitch)
    sounds = exists & (spans.end[latest] > frame)
    velocity = np.where(sounds, spans.velocity[latest], np.float32(0.0))
    # Where the latest note is over but an earlier one goes on beneath it, look at those pitches note by note.
    hidden = np.flatnonzero(exists & ~sounds & (spans.reach[latest] > frame))
    for key in np.unique(pitch[hidden]).tolist():
        asked = hidden[pitch[hidden] == key]
        velocity[asked] = _velocities_beneath(spans, key, frame[asked])
    in_order = np.argsort(frame, kind="stable")
    for start in range(0, len(frame), _ONSETS_AT_A_TIME):
        chosen = in_order[start : start + _ONSETS_AT_A_TIME]
        frames = frame[chosen]
        row, voice = np.nonzero(music[frames, :, 0] == pitch[chosen, None].astype(np.float32))
        music[frames[row], voice, 1] = velocity[chosen[row]]
        long_arrays.let_go(music)


def _velocities_beneath(spans: _Spans, pitch: int, frame: NDArray[np.int64]) -> NDArray[np.float32]:
    """The velocity of the latest begun note of a pitch that still sounds, at each of these frames; linear in all of them."""
    own = np.flatnonzero(spans.pitch == pitch)
    notes = list(zip(spans.start[own].tolist(), spans.end[own].tolist(), spans.velocity[own].tolist(), strict=True))
    stack: list[tuple[int, float]] = []
    found = np.zeros(len(frame), np.float32)
    k = 0
    for index in np.argsort(frame, kind="stable").tolist():
        now = int(frame[index])
        while k < len(notes) and notes[k][0] <= now:
            stack.append(notes[k][1:])
            k += 1
        while stack and stack[-1][0] <= now:
            stack.pop()
        found[index] = stack[-1][1] if stack else 0.0
    return found


def _fill_pedal(pedal: NDArray[np.float32], performance: Performance, frame_rate_hz: int) -> None:
    """Write pedal movements into [n_frames, 4]; of several in one frame the last counts, parts one after the other."""
    frame = (performance.control_s * frame_rate_hz).astype(np.int64)
    chosen = np.flatnonzero(frame < len(pedal))
    chosen = chosen[np.argsort(performance.control_part[chosen], kind="stable")]
    cell = frame[chosen] * _N_PEDALS + performance.control_number[chosen] - _FIRST_PEDAL
    cells, last = np.unique(cell[::-1], return_index=True)
    pedal.reshape(-1)[cells] = (performance.control_value[chosen[::-1][last]].astype(np.float32) + 1) / 128
