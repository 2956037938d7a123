"""Generated piano passages for measuring: chords, runs, repeated notes, pedalled stretches. Of no composer, so free."""

from __future__ import annotations

import numpy as np

from pianofarm_common.midi import Performance

_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])


def passage(seed: int, seconds: float = 20.0) -> Performance:
    """A passage; each seed another one.

    Args:
        seed: of the generator.
        seconds: about how long.
    """
    rng = np.random.default_rng(seed)
    notes: list[tuple[float, float, int, int]] = []
    controls: list[tuple[float, int, int]] = []
    now = 0.1
    while now < seconds:
        kind = rng.choice(["chord", "run", "repeat", "arpeggio"])
        velocity = int(rng.integers(25, 115))
        root = int(rng.integers(36, 84))
        if kind == "chord":
            length = float(rng.uniform(0.3, 1.2))
            notes += [(now, now + length, root + i, velocity + int(rng.integers(-8, 8))) for i in (0, 4, 7, 12)]
            now += length
        elif kind == "run":
            step = float(rng.uniform(0.08, 0.2))
            for index in range(12):
                pitch = root + 12 * (index // 7) + int(_SCALE[index % 7])
                notes.append((now, now + 0.9 * step, pitch, velocity + int(rng.integers(-8, 8))))
                now += step
        elif kind == "repeat":
            for _ in range(6):
                notes.append((now, now + 0.1, root, velocity + int(rng.integers(-8, 8))))
                now += 0.16
        else:
            controls.append((now, 64, 127))
            for index in range(16):
                pitch = root - 12 + int(np.array([0, 7, 12, 16])[index % 4]) + 12 * (index // 8)
                notes.append((now, now + 0.1, pitch, velocity + int(rng.integers(-8, 8))))
                now += 0.12
            controls.append((now + 0.2, 64, 0))
            now += 0.3
    notes = sorted((on, off, min(max(p, 21), 108), min(max(v, 1), 127)) for on, off, p, v in notes)
    notes = sorted(notes, key=lambda note: (note[0], note[2]))
    return Performance(
        onset_s=np.array([note[0] for note in notes]),
        offset_s=np.array([note[1] for note in notes]),
        pitch=np.array([note[2] for note in notes], np.uint8),
        velocity=np.array([note[3] for note in notes], np.uint8),
        control_s=np.array([control[0] for control in controls]),
        control_number=np.array([control[1] for control in controls], np.uint8),
        control_value=np.array([control[2] for control in controls], np.uint8),
    )
