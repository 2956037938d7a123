"""The feedback-delay-network room of DDSP-Piano v2 and ENSTDkCl: its parameters -> an impulse response. No audio passes here.

Eight (or six) delay lines feed each other through a Householder-like mixing matrix, allpass chains that thicken the echoes and
one-pole filters that set the reverberation time; early reflections are a short free response on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel


@dataclass(frozen=True)
class FeedbackDelayNetwork:
    """The parameters of one room, as they are in a checkpoint."""

    input_gain: NDArray[np.float32]  #: [n_lines]
    output_gain: NDArray[np.float32]  #: [n_lines]
    delay_samples: NDArray[np.float32]  #: [n_lines], the fraction realized by an allpass
    allpass_gain: NDArray[np.float32]  #: [n_lines, n_allpasses]
    allpass_delay_samples: NDArray[np.float32]  #: [n_lines, n_allpasses]
    reverberation_time_s: float  #: time to fall by 60 dB, at 0 Hz
    tone: float  #: before the sigmoid: the time at half the sample rate is sigmoid(tone) times that at 0 Hz
    early_ir: NDArray[np.float32]  #: [n_early_samples]

    def impulse_response(self, sample_rate_hz: int) -> NDArray[np.float32]:
        """The room's response, [2 * sample_rate_hz] float32.

        Sampled in frequency, as the original does: whatever rings for more than two seconds folds back to the start.

        Raises:
            BadModel: a reverberation time of 0 or less.
        """
        if not self.reverberation_time_s > 0:
            raise BadModel(f"a room with a reverberation time of {self.reverberation_time_s:g} s: it must be above 0")
        n_samples = 2 * sample_rate_hz
        # Angles reach 1400 rad, and the original has them in single precision. A room with six lines is so ill-conditioned (1700)
        # that its response moves by 8 % with them; every other step may be more exact than the original's.
        omega = np.float32(2 * np.pi) * np.arange(n_samples // 2 + 1, dtype=np.float32)[:, None] / np.float32(n_samples)
        unit = _rotation(-omega)  # [bin, 1]
        whole = np.floor(self.delay_samples)
        fraction = self.delay_samples - whole.astype(np.float64)
        eta = (1 - fraction) / (1 + fraction)
        delay = _rotation(-omega * whole) * (eta + unit) / (1 + eta * unit)  # [bin, line]

        allpass_gain = self.allpass_gain.astype(np.float64)
        advance = _rotation(omega[:, :, None] * self.allpass_delay_samples)  # [bin, line, allpass]
        allpass = ((1 + allpass_gain * advance) / (allpass_gain + advance)).prod(axis=-1)

        loop_s = (self.delay_samples + self.allpass_delay_samples.sum(axis=-1, dtype=np.float64)) / sample_rate_hz
        bass = 10 ** (-3 * loop_s / self.reverberation_time_s)
        treble = 10 ** (-3 * loop_s / (self.reverberation_time_s / (1 + np.exp(-self.tone))))
        damping = 2 * bass * treble / (bass + treble) / (1 - (bass - treble) / (bass + treble) * unit)  # [bin, line]

        n_lines = len(self.delay_samples)
        mixing = 0.5 * np.ones((n_lines, n_lines)) - np.eye(n_lines)
        feedback = damping[:, :, None] * mixing * (allpass * delay)[:, None, :]  # [bin, line, line]
        lines = np.linalg.solve(np.eye(n_lines) - feedback, self.input_gain.astype(np.complex128)[:, None])[..., 0]
        late = np.fft.irfft((self.output_gain * delay * lines).sum(axis=-1), n_samples)
        late[: len(self.early_ir)] += self.early_ir[:n_samples]
        return late.astype(np.float32)


def _rotation(angle: NDArray[np.float32]) -> NDArray[np.complex128]:
    """Unit complex numbers at these angles, in radians."""
    rotation: NDArray[np.complex128] = np.exp(1j * angle.astype(np.float64))
    return rotation
