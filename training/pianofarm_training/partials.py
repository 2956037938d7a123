"""Amplitudes of known partials over time, by least squares in short windows. Frequencies come from `tuning`.

All frames of a note share one projection matrix, so the analysis is a matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Regularisation of the normal equations, relative to their diagonal.
RIDGE = 1e-4


class PartialAnalyser:
    """Least-squares amplitudes of the partials of one key.

    The window holds two and a half periods of the fundamental, at least 6 ms: shorter ones cannot tell neighbouring partials
    apart, longer ones smear the attack.
    """

    def __init__(self, frequency_hz: NDArray[np.float64], sample_rate_hz: int) -> None:
        spacing_hz = float(np.diff(frequency_hz, prepend=0.0).min())
        self.frequency_hz = frequency_hz
        self.sample_rate_hz = sample_rate_hz
        self.n_window = 2 * int(max(2.5 / spacing_hz, 0.006) * sample_rate_hz / 2)
        time = np.arange(self.n_window) - self.n_window / 2 + 0.5
        angle = 2 * np.pi / sample_rate_hz * np.outer(frequency_hz, time)
        basis = np.concatenate([np.cos(angle), -np.sin(angle)])
        weighted = basis * np.hanning(self.n_window + 2)[1:-1]
        normal = weighted @ basis.T
        normal[np.diag_indices_from(normal)] *= 1 + RIDGE
        self._projection = np.linalg.solve(normal, weighted).astype(np.float32)

    @property
    def window_s(self) -> float:
        """Length of the window."""
        return self.n_window / self.sample_rate_hz

    def amplitudes(self, samples: NDArray[np.float32], frame_at: NDArray[np.int_]) -> NDArray[np.complex64]:
        """Demodulated amplitudes: a steady partial gives a constant whose phase is that at sample 0.

        No window reaches across the onset: frames nearer to it than half a window get the first full window's value.

        Args:
            samples: [n_samples], one channel of a note from its onset.
            frame_at: [n_frames], samples; all but the held ones at least half a window before the end.

        Returns:
            [n_frames, n_partials] complex64.
        """
        half = self.n_window // 2
        start = np.clip(frame_at, half, len(samples) - half) - half
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.n_window)[start]
        found = windows @ self._projection.T
        n = len(self.frequency_hz)
        cycles = np.outer(start + half - 0.5, self.frequency_hz / self.sample_rate_hz) % 1.0
        return np.asarray((found[:, :n] + 1j * found[:, n:]) * np.exp(-2j * np.pi * cycles), np.complex64)
