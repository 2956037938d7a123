"""What every instrument plays to be measured: single notes, the keyboard at all layers, five passages. Makes no sound."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_training.passages import passage
from pianofarm_training.samples import SALAMANDER_LAYER_LOW

#: Real pieces, where there are such, and where in them the passage begins, in seconds: dense, pedalled, dry, classical, washed.
PIECES = (
    ("god_chpn_op10_e01.mid", 5.0),
    ("clair-de-lune.mid", 130.0),
    ("maple-leaf-rag.mid", 10.0),
    ("mozart-k545-mvt1.mid", 10.0),
    ("ravel_miroirs_1.mid", 60.0),
)

#: Length of a passage.
PASSAGE_S = 20.0

#: A single note is held this long and has this long to die away before the next.
HELD_S, REST_S = 4.0, 2.0

#: The same for a note of the keyboard.
SHORT_HELD_S, SHORT_REST_S = 0.4, 0.6

#: Silence before the first note.
LEAD_S = 0.5

_LIMITS = MidiLimits(max_bytes=4_000_000, max_duration_s=3600.0, max_notes=100_000, max_tracks=64)


@dataclass(frozen=True)
class Notes:
    """Single notes one after the other."""

    performance: Performance
    pitches: tuple[int, ...]
    layers: tuple[int, ...]  #: index of the velocity layer, softest first

    def __len__(self) -> int:
        return len(self.pitches)


@dataclass(frozen=True)
class Passage:
    """Music to play."""

    name: str
    performance: Performance


def shared_folder() -> Path:
    """Where reference material that the project may not ship is looked for."""
    return Path(os.environ.get("PIANOFARM_SHARED") or Path(__file__).resolve().parents[4] / "shared")


def velocity_of(layer: int) -> int:
    """The velocity in the middle of a Salamander layer, 1..127."""
    highest = (*(low - 1 for low in SALAMANDER_LAYER_LOW[1:]), 127)[layer]
    return round((SALAMANDER_LAYER_LOW[layer] + highest) / 2)


def single_notes(pitches: list[int], layers: tuple[int, ...], held_s: float = HELD_S, rest_s: float = REST_S) -> Notes:
    """Every key at every layer, alone.

    Args:
        pitches: MIDI pitches.
        layers: indices of velocity layers.
        held_s: how long a key is down.
        rest_s: silence after it.
    """
    played = [(pitch, layer) for layer in layers for pitch in pitches]
    onset_s = LEAD_S + (held_s + rest_s) * np.arange(len(played), dtype=np.float64)
    performance = _performance(
        onset_s, onset_s + held_s, [pitch for pitch, _ in played], [velocity_of(layer) for _, layer in played]
    )
    return Notes(performance, tuple(pitch for pitch, _ in played), tuple(layer for _, layer in played))


def one_note(pitch: int, velocity: int, seconds: float) -> Performance:
    """A performance of one held note."""
    return _performance(np.array([0.0]), np.array([seconds]), [pitch], [velocity])


def keyboard() -> Notes:
    """All 88 keys at all 16 layers, short."""
    layers = tuple(range(len(SALAMANDER_LAYER_LOW)))
    return single_notes(list(range(21, 109)), layers, SHORT_HELD_S, SHORT_REST_S)


def passages(folder: Path | None = None) -> list[Passage]:
    """Five passages of 20 s that no model has learned from.

    Args:
        folder: of the real pieces (`PIECES`); None: where `PIANOFARM_SHARED` says. Where one is missing, five generated passages
            stand in.
    """
    if folder is None:
        folder = shared_folder() / "midi" / "pieces"
    if not all((folder / name).is_file() for name, _ in PIECES):
        return [Passage(f"generated {seed}", passage(seed, PASSAGE_S)) for seed in range(101, 106)]
    return [
        Passage(name.removesuffix(".mid"), cut(read_performance((folder / name).read_bytes(), _LIMITS), start_s))
        for name, start_s in PIECES
    ]


def cut(performance: Performance, start_s: float, length_s: float = PASSAGE_S) -> Performance:
    """A part of a performance: the notes that begin in it, and the pedals as they are at its beginning.

    Args:
        performance: the whole.
        start_s: where the part begins; it begins with `LEAD_S` of silence.
        length_s: of the part; notes that outlast it are let go there.
    """
    kept = (performance.onset_s >= start_s) & (performance.onset_s < start_s + length_s - 0.2)
    shift_s = LEAD_S - start_s
    before = performance.control_s < start_s
    controls = {
        int(number): (0.0, int(number), int(value))
        for number, value in zip(performance.control_number[before], performance.control_value[before], strict=True)
    }
    within = ~before & (performance.control_s < start_s + length_s)
    later = zip(
        performance.control_s[within] + shift_s,
        performance.control_number[within],
        performance.control_value[within],
        strict=True,
    )
    all_controls = [*controls.values(), *((float(time_s), int(number), int(value)) for time_s, number, value in later)]
    return Performance(
        onset_s=performance.onset_s[kept] + shift_s,
        offset_s=np.minimum(performance.offset_s[kept], start_s + length_s) + shift_s,
        pitch=performance.pitch[kept],
        velocity=performance.velocity[kept],
        control_s=np.array([time_s for time_s, _, _ in all_controls]),
        control_number=np.array([number for _, number, _ in all_controls], np.uint8),
        control_value=np.array([value for _, _, value in all_controls], np.uint8),
    )


def _performance(
    onset_s: NDArray[np.float64],
    offset_s: NDArray[np.float64],
    pitches: list[int],
    velocities: list[int],
) -> Performance:
    nothing = np.zeros(0, np.uint8)
    return Performance(
        onset_s=onset_s,
        offset_s=offset_s,
        pitch=np.array(pitches, np.uint8),
        velocity=np.array(velocities, np.uint8),
        control_s=np.zeros(0),
        control_number=nothing,
        control_value=nothing,
    )
