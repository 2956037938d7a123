"""The pieces that are rendered: generated ones that anybody can make again to the byte, and real ones where they are at hand.

A generator of random numbers of our own and integer ticks: the bytes depend on no library and no version of Python.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

#: Real performances that are looked for in `midi/pieces` of the folder `PIANOFARM_SHARED`: an etude, a nocturne piece, a rag.
REAL = ("god_chpn_op10_e01.mid", "clair-de-lune.mid", "maple-leaf-rag.mid")

_TICKS_A_SECOND = 1000  # 500 ticks a quarter note at 120 a minute
_KEYS_HELD = 13
_LOWEST, _HIGHEST = 28, 100
_SUSTAIN = 64


@dataclass(frozen=True)
class Style:
    """How a generated piece is played."""

    notes_per_s: float
    keys_held: int  #: a key goes up when this many more have gone down
    pedal_s: float  #: how long a touch of the pedal lasts; one comes with every `keys_held` notes

    def __post_init__(self) -> None:
        if not 1 <= self.keys_held <= (_HIGHEST - _LOWEST) // 2:
            raise ValueError(f"{self.keys_held} keys held: 1 to {(_HIGHEST - _LOWEST) // 2} are possible")


#: Eleven notes a second, thirteen keys down at any time: nearly all of the 16 voices of the published models.
DENSE = Style(notes_per_s=11.0, keys_held=_KEYS_HELD, pedal_s=0.15)


def dense(length_s: float, seed: int = 1) -> bytes:
    """The benchmark's piece: as dense as the published models can play without leaving out notes."""
    return generate(length_s, DENSE, seed)


def catalogue(n_pieces: int, seed: int = 1) -> Iterator[tuple[float, bytes]]:
    """Diverse pieces of 10 s to 5 min, each length as likely on a logarithmic scale, sparse to dense: (seconds, MIDI bytes)."""
    random = _Random(seed)
    for number in range(n_pieces):
        length_s = round(10.0 * math.exp(random.part() * math.log(30.0)), 1)
        keys_held = 1 + random.below(_KEYS_HELD)
        notes_per_s = 1.0 + 11.0 * random.part()
        style = Style(notes_per_s, keys_held, pedal_s=0.15 + 0.7 * random.part())
        yield length_s, generate(length_s, style, seed * 1_000_003 + number)


def generate(length_s: float, style: Style, seed: int) -> bytes:
    """A standard MIDI file of type 0, its last note ending at `length_s`."""
    random = _Random(seed)
    step = _TICKS_A_SECOND / style.notes_per_s
    end = round(length_s * _TICKS_A_SECOND)
    onsets = [round(i * step + 0.2 * step * random.part()) for i in range(max(1, int(end / step) - 1))]
    events: list[tuple[int, int, bytes]] = []  # tick, order within it (ends first), message
    recent: list[int] = []
    for i, onset in enumerate(onsets):
        pitch = _next_pitch(random, recent, i)
        recent = [*recent, pitch][-style.keys_held - 1 :]
        later = i + style.keys_held
        off = min(end, onsets[later] if later < len(onsets) else end)
        velocity = 30 + random.below(90)
        events.append((onset, 2, bytes((0x90, pitch, velocity))))
        events.append((max(onset + 1, off), 0, bytes((0x80, pitch, 64))))
        if i % style.keys_held == 0:
            up = min(end, onset + round(style.pedal_s * _TICKS_A_SECOND))
            events.append((onset, 1, bytes((0xB0, _SUSTAIN, 127))))
            events.append((up, 1, bytes((0xB0, _SUSTAIN, 0))))
    return _file(sorted(events))


def shared_folder() -> Path:
    """Where reference material that the project may not ship is looked for."""
    return Path(os.environ.get("PIANOFARM_SHARED") or REPOSITORY.parent / "shared")


def real() -> dict[str, Path]:
    """The real pieces at hand, by name."""
    found = {name: shared_folder() / "midi" / "pieces" / name for name in REAL}
    return {name: path for name, path in found.items() if path.is_file()}


def _next_pitch(random: _Random, recent: list[int], i: int) -> int:
    """A key that is not down: figures that rise and fall over the keyboard, every seventh note in the bass."""
    middle = 40 if i % 7 == 0 else 64 + round(20 * math.sin(i * 0.11))
    pitch = middle + random.below(17) - 8
    while pitch in recent:
        pitch = pitch + 1 if pitch < _HIGHEST else _LOWEST
    return pitch


class _Random:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, n: int) -> int:
        """0 .. n - 1."""
        return (self._word() >> 32) * n >> 32

    def part(self) -> float:
        """0 .. 1, 1 excluded."""
        return (self._word() >> 11) / (1 << 53)

    def _word(self) -> int:
        mask = (1 << 64) - 1
        self._state = (self._state + 0x9E3779B97F4A7C15) & mask
        z = self._state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)


def _file(events: list[tuple[int, int, bytes]]) -> bytes:
    track = bytearray()
    now = 0
    for tick, _, message in events:
        track += _variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, _TICKS_A_SECOND // 2)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + bytes(track)


def _variable_length(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))
