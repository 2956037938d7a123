"""The multi-scale spectral loss of DDSP (Engel et al., ICLR 2020), as `ddsp.losses.SpectralLoss` computes it, in JAX.

Written out because `ddsp.losses` is TensorFlow; a test holds the two together.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

FFT_SIZES = (2048, 1024, 512, 256, 128, 64)

#: Magnitudes below this count as this, in the logarithm.
FLOOR = 1e-5


def spectral_loss(target: Any, sound: Any) -> Any:
    """Mean absolute differences of magnitudes and of their natural logarithms, summed over six window lengths.

    Args:
        target: [n_sounds, n_samples], float32.
        sound: the same shape.
    """
    loss = jnp.asarray(0.0)
    for size in FFT_SIZES:
        wanted, found = (_magnitudes(signal, size) for signal in (target, sound))
        loss += jnp.abs(wanted - found).mean() + jnp.abs(_log(wanted) - _log(found)).mean()
    return loss


def _magnitudes(signal: Any, size: int) -> Any:
    """Hann windows a quarter apart, the end padded with silence. [n_sounds, n_frames, size / 2 + 1]"""
    hop = size // 4
    n_frames = -(-signal.shape[-1] // hop)
    padded = jnp.pad(signal, ((0, 0), (0, (n_frames - 1) * hop + size - signal.shape[-1])))
    quarters = padded.reshape(len(signal), n_frames + 3, hop)
    frames = jnp.concatenate([quarters[:, part : part + n_frames] for part in range(4)], axis=-1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    spectrum = jnp.fft.rfft(frames * window.astype(np.float32))
    # The gradient of a magnitude is not finite at zero.
    return jnp.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-14)


def _log(magnitude: Any) -> Any:
    return jnp.log(jnp.maximum(magnitude, FLOOR))
