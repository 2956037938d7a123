"""What the partials leave: the noise of a note as power densities in bands. No partials, no fitting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.bands import band_weights

#: The residual fades in over this long: a hard cut at the onset leaks high frequencies into the noise.
FADE_IN_S = 0.0015


def band_densities(
    samples: NDArray[np.float32], sample_rate_hz: int, n_bands: int, window: int, hop: int
) -> NDArray[np.float32]:
    """Power density per band and frame.

    Args:
        samples: [n_samples], one channel of a residual from its onset; changed in place by the fade.
        sample_rate_hz: of the samples.
        n_bands: mel-spaced bands from 0 to half the rate.
        window: samples of the Hann window; frame i is centred at window / 2 + i * hop.
        hop: samples between frames.

    Returns:
        [n_frames, n_bands] float32, in units of full-scale^2 per Hz, one-sided.
    """
    n_fade = int(FADE_IN_S * sample_rate_hz)
    samples[:n_fade] *= np.sin(0.5 * np.pi * np.arange(n_fade) / n_fade).astype(np.float32) ** 2
    hann = np.hanning(window + 2)[1:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop] * hann
    n_fft = 2 * window
    power = np.abs(np.fft.rfft(frames, n_fft, axis=1)) ** 2
    weights = band_weights(n_bands, n_fft // 2 + 1, sample_rate_hz)
    scale = 2.0 / (sample_rate_hz * float((hann**2).sum()))
    return np.asarray(scale * power @ (weights / weights.sum(axis=1, keepdims=True)).T, np.float32)
