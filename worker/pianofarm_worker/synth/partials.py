"""Partial frequencies of a piano as fixed-point phase steps and grain bases, per pitch. No time, no voices, no audio here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Phases are unsigned 64-bit fractions of a turn: adding wraps exactly where a phase does, whatever the order of the
#: additions, so that a phase after an hour is the same whether it was advanced in one step or in a million.
Turns = NDArray[np.uint64]
TURN = 2.0**64


class PartialTables:
    """What the additive stage needs to know of one piano: each pitch's partials. Immutable; share it between renders.

    Partial k (1, 2, ...) of a string tuned to f0 lies at k f0 sqrt(1 + B k^2), B being the pitch's inharmonicity (Fletcher,
    "Normal vibration frequencies of a stiff piano string", JASA 36, 1964).
    """

    def __init__(
        self, f0_hz: ArrayLike, inharmonicity: ArrayLike, *, n_partials: int, hop: int, sample_rate_hz: int
    ) -> None:
        """Tabulate one piano.

        Args:
            f0_hz: [128, n_strings], fundamental of every string of every MIDI pitch. Pitch 0 is a pitch like any other.
            inharmonicity: [128], the coefficient B; negative values count as 0.
            n_partials: partials of a string, audible or not.
            hop: samples from one control frame to the next.
            sample_rate_hz: of the audio to be made.
        """
        self.hop = hop
        self.n_partials = n_partials
        # In single precision, operation by operation as DDSP-Piano computes them: it rounds a partial at 5 kHz by up to
        # 0.0005 Hz, which nobody hears, but which turns the phase by 0.01 rad in 3 s and so decides whether two renders can
        # be compared sample by sample.
        number = np.arange(1, n_partials + 1, dtype=np.float32)
        fundamental = np.asarray(f0_hz, dtype=np.float32)[:, :, None]
        stiffness = np.maximum(np.asarray(inharmonicity, dtype=np.float32), 0)[:, None, None]
        frequency_hz = (fundamental * number) * np.sqrt(number * number * stiffness + np.float32(1))
        radians = frequency_hz * np.float32(2 * np.pi) / np.float32(sample_rate_hz)
        self.n_strings = fundamental.shape[1]
        #: [128, n_strings, n_partials] float64, turns per sample.
        self.turns = radians.astype(np.float64) / (2 * np.pi)
        #: [128, n_strings, n_partials], half the phase advance of one sample: a hop that glides advances by odd halves.
        self.half_step: Turns = np.rint(np.mod(self.turns / 2, 1.0) * TURN).astype(np.uint64)
        #: [128, n_strings, n_partials], what a hop of constant frequency advances.
        self.hop_step: Turns = self.half_step * np.uint64(2 * hop)
        self._audible = self.turns < 0.5
        #: [128], partials of a pitch below half the sample rate on any string: the others never sound.
        self.n_audible: list[int] = self._audible.any(axis=1).sum(axis=1).tolist()
        #: [128], those below it on every string.
        self.n_audible_everywhere: list[int] = self._audible.all(axis=1).sum(axis=1).tolist()
        part = np.arange(hop) / hop
        #: [hop] float64, weight of the later of two frames inside a hop (half a Hann window); the earlier one has 1 - fade_in.
        self.fade_in = 0.5 - 0.5 * np.cos(np.pi * part)
        #: [2, hop] float32, weights of the earlier and the later frame, divided over the strings.
        self.fades = (np.stack((1 - self.fade_in, self.fade_in)) / self.n_strings).astype(np.float32)
        #: [3, hop]: (phase one sample before a hop, frequency at its start, change over it) times this is the phase in a glide.
        self.glide = np.stack((np.ones(hop), np.arange(1, hop + 1), np.cumsum(part)))
        #: [2, hop]: (frequency at the start, change) times this is the frequency in a glide.
        self.glide_frequency = np.stack((np.ones(hop), part))
        self._bases: dict[int, NDArray[np.float32]] = {}
        self._rotations: dict[int, NDArray[np.float64]] = {}

    def basis(self, pitch: int) -> NDArray[np.float32]:
        """Even and odd part of a pitch's grain, [2, n_strings * n_audible, hop], from the frame's own sample outwards.

        The Hann window and the division of the amplitude over the strings are in it; partials above half the sample rate are 0.
        """
        if pitch not in self._bases:
            n = self.n_audible[pitch]
            angle = 2 * np.pi * self.turns[pitch, :, :n, None] * np.arange(self.hop)
            window = (1 - self.fade_in) * self._audible[pitch, :, :n, None] / self.n_strings
            even, odd = np.cos(angle) * window, np.sin(angle) * window
            self._bases[pitch] = np.stack((even, odd)).reshape(2, -1, self.hop).astype(np.float32)
        return self._bases[pitch]

    def rotation(self, pitch: int) -> NDArray[np.float64]:
        """Cosine and sine of what the audible partials of a pitch advance in a hop, [2, n_strings, n_audible]."""
        if pitch not in self._rotations:
            angle = self.hop_step[pitch, :, : self.n_audible[pitch]] * (2 * np.pi / TURN)
            self._rotations[pitch] = np.stack((np.cos(angle), np.sin(angle)))
        return self._rotations[pitch]
