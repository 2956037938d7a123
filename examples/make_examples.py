"""Writes the MIDI files of this folder: our own studies, and the opening of a prelude by J. S. Bach from its chords.

`python examples/make_examples.py [FOLDER]`. The same bytes on every run; a test compares them with the committed files.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pretty_midi

SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67


class Hands:
    """A pianist at one piano: strikes and pedals in seconds, with the small unevenness of real fingers."""

    def __init__(self, seed: int) -> None:
        self.piano = pretty_midi.Instrument(program=0, name="piano")
        self._fingers = random.Random(seed)

    def strike(self, at_s: float, length_s: float, pitch: int, velocity: float) -> None:
        """A key goes down, within 6 ms and 3 steps of what was meant, and up again."""
        onset_s = max(0.0, at_s + self._fingers.uniform(-0.006, 0.006))
        dynamic = round(velocity + self._fingers.uniform(-3.0, 3.0))
        note = pretty_midi.Note(min(127, max(1, dynamic)), pitch, onset_s, onset_s + length_s)
        self.piano.notes.append(note)

    def pedal(self, at_s: float, control: int, value: int) -> None:
        """A pedal moves to a position, 0 (up) to 127 (down)."""
        self.piano.control_changes.append(pretty_midi.ControlChange(control, value, at_s))

    def slide(self, from_s: float, to_s: float, control: int, start: int, stop: int) -> None:
        """A pedal glides from one position to another, a step every 20 ms."""
        n_steps = max(1, round((to_s - from_s) / 0.02))
        for k in range(n_steps + 1):
            self.pedal(from_s + (to_s - from_s) * k / n_steps, control, round(start + (stop - start) * k / n_steps))

    def midi(self) -> pretty_midi.PrettyMIDI:
        """What was played."""
        midi = pretty_midi.PrettyMIDI(resolution=960, initial_tempo=120.0)
        midi.instruments.append(self.piano)
        return midi


def bach_prelude() -> pretty_midi.PrettyMIDI:
    """Prelude in C major, BWV 846, bars 1 to 11, closed with the chord it began with (c. 40 s)."""
    bars = [
        (60, 64, 67, 72, 76),
        (60, 62, 69, 74, 77),
        (59, 62, 67, 74, 77),
        (60, 64, 67, 72, 76),
        (60, 64, 69, 76, 81),
        (60, 62, 66, 69, 74),
        (59, 62, 67, 74, 79),
        (59, 60, 64, 67, 72),
        (57, 60, 64, 67, 72),
        (50, 57, 62, 66, 72),
        (55, 59, 62, 67, 71),
    ]
    loudness = (52, 55, 57, 54, 66, 62, 64, 56, 53, 60, 55)
    hands = Hands(846)
    now_s = 0.3
    for bar, (chord, level) in enumerate(zip(bars, loudness, strict=True)):
        hands.pedal(now_s - 0.02 if bar == 0 else now_s + 0.06, SUSTAIN, 100)
        for half in range(2):
            for step, voice in enumerate((0, 1, 2, 3, 4, 2, 3, 4)):
                late = bar == len(bars) - 1 and half == 1
                sixteenth_s = 0.212 + (0.012 * step if late else 0.0) + (0.02 if step == 0 and half == 0 else 0.0)
                held_s = sixteenth_s * (8 - step if voice < 2 else 1.1)
                swell = 5.0 * math.sin(math.pi * step / 7) - 5.0 * half
                hands.strike(now_s, held_s, chord[voice], level + swell + (4.0 if voice in (0, 4) else 0.0))
                now_s += sixteenth_s
        hands.pedal(now_s, SUSTAIN, 0)
    hands.pedal(now_s + 0.08, SUSTAIN, 110)
    for k, pitch in enumerate((48, 55, 60, 64, 67, 72)):
        hands.strike(now_s + 0.07 * k, 3.2 - 0.07 * k, pitch, 50 - 2 * k)
    hands.slide(now_s + 2.6, now_s + 3.4, SUSTAIN, 110, 0)
    return hands.midi()


def pedal_study() -> pretty_midi.PrettyMIDI:
    """The same phrase dry, with pedal, with half pedals, with the soft pedal, and over a chord held by the sostenuto (c. 20 s)."""
    phrase = ((67, 1.0), (71, 0.5), (74, 0.5), (78, 1.0), (76, 0.5), (74, 0.5), (71, 1.0))
    bass = (43, 50, 59)
    hands = Hands(64)
    beat_s = 0.52

    def play(start_s: float, level: float, *, legato: float) -> float:
        for pitch in bass:
            hands.strike(start_s, 0.45, pitch, level - 8)
        now_s = start_s
        for pitch, beats in phrase:
            hands.strike(now_s, beats * beat_s * legato, pitch, level + (pitch - 67) * 0.8)
            now_s += beats * beat_s
        return now_s + beat_s

    now_s = play(0.3, 66, legato=0.6)
    hands.pedal(now_s - 0.05, SUSTAIN, 127)
    end_s = play(now_s, 66, legato=0.6)
    hands.pedal(end_s, SUSTAIN, 0)
    # Half pedals: the dampers brush the strings, deeper from bar to bar, and change once a beat.
    now_s = end_s + 0.2
    for depth in (48, 72):
        end_s = play(now_s, 66, legato=0.7)
        moment_s = now_s
        while moment_s < end_s - beat_s:
            hands.slide(moment_s, moment_s + 0.1, SUSTAIN, depth // 3, depth)
            hands.slide(moment_s + beat_s - 0.1, moment_s + beat_s - 0.02, SUSTAIN, depth, depth // 3)
            moment_s += beat_s
        hands.pedal(end_s - 0.1, SUSTAIN, 0)
        now_s = end_s + 0.2
    hands.slide(now_s - 0.2, now_s - 0.05, SOFT, 0, 127)
    hands.pedal(now_s - 0.04, SUSTAIN, 90)
    end_s = play(now_s, 46, legato=0.9)
    hands.pedal(end_s, SUSTAIN, 0)
    hands.slide(end_s, end_s + 0.15, SOFT, 127, 0)
    now_s = end_s + 0.3
    for k, pitch in enumerate((31, 43, 50)):
        hands.strike(now_s + 0.02 * k, 0.9, pitch, 70)
    hands.pedal(now_s + 0.5, SOSTENUTO, 127)
    end_s = play(now_s + 1.0, 62, legato=0.5)
    hands.pedal(end_s + 1.0, SOSTENUTO, 0)
    return hands.midi()


def dense_study() -> pretty_midi.PrettyMIDI:
    """Arpeggios over five octaves and repeated full chords in one pedal: more than 16 strings at once (c. 14 s)."""
    hands = Hands(16)
    now_s = 0.3
    for root, quality in (
        (33, (0, 7, 12, 15, 19, 24)),
        (29, (0, 7, 12, 16, 19, 24)),
        (36, (0, 7, 12, 16, 19, 24)),
        (31, (0, 7, 12, 16, 22, 24)),
    ):
        hands.pedal(now_s - 0.01, SUSTAIN, 0)
        hands.pedal(now_s + 0.03, SUSTAIN, 127)
        wave = [root + 12 * octave + step for octave in range(3) for step in quality]
        run = [pitch for pitch in dict.fromkeys(wave) if pitch <= 96]
        run += run[-2:0:-1]
        for k, pitch in enumerate(run):
            rise = math.sin(math.pi * k / (len(run) - 1))
            hands.strike(now_s, 0.14, pitch, 48 + 44 * rise)
            now_s += 0.082 - 0.018 * rise
    hands.pedal(now_s, SUSTAIN, 0)
    hands.pedal(now_s + 0.04, SUSTAIN, 127)
    left, right = (33, 40, 45, 52), (57, 60, 64, 69, 72, 76)
    for k in range(24):
        shift = (0, 0, 5, 5, 3, 3, 7, 7)[k // 3]
        if k % 6 == 0 and k > 0:
            hands.pedal(now_s, SUSTAIN, 0)
            hands.pedal(now_s + 0.05, SUSTAIN, 127)
        chord = (left if k % 2 == 0 else ()) + tuple(pitch + 12 * (k % 3 == 2) for pitch in right)
        for pitch in chord:
            hands.strike(now_s, 0.12, pitch + shift, 64 + 2.2 * k)
        now_s += 0.19
    for k, pitch in enumerate((21, 33, 45, 52, 57, 60, 64, 69, 72, 76, 81, 84, 88, 93)):
        hands.strike(now_s + 0.022 * k, 2.4, pitch, 108 - k)
    hands.slide(now_s + 2.2, now_s + 3.2, SUSTAIN, 127, 0)
    return hands.midi()


def velocity_ladder() -> pretty_midi.PrettyMIDI:
    """Chords from the softest to the hardest touch in three registers, then each register's notes alone (c. 26 s)."""
    hands = Hands(127)
    now_s = 0.3
    ladder = (6, 16, 28, 40, 52, 64, 76, 88, 100, 112, 124)
    for chord in ((36, 43, 52), (57, 64, 69, 73), (81, 85, 88)):
        for velocity in ladder:
            for pitch in chord:
                hands.strike(now_s, 0.36, pitch, velocity)
            now_s += 0.48
        now_s += 0.5
    for pitch in (24, 36, 48, 60, 72, 84, 96, 108):
        for velocity in (24, 72, 118):
            hands.strike(now_s, 0.3, pitch, velocity)
            now_s += 0.36
    return hands.midi()


PIECES: dict[str, Callable[[], pretty_midi.PrettyMIDI]] = {
    "bach-prelude-bwv846-opening.mid": bach_prelude,
    "pedal-study.mid": pedal_study,
    "dense-study.mid": dense_study,
    "velocity-ladder.mid": velocity_ladder,
}


def main(folder: Path) -> None:
    """Write every piece into a folder."""
    for name, piece in PIECES.items():
        piece().write(str(folder / name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
