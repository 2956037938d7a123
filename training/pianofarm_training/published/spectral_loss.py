"""The multi-scale spectral loss of DDSP (Engel et al., ICLR 2020), as `ddsp.losses.SpectralLoss` computes it. Makes no audio.

Written out because `ddsp.losses` cannot be imported without packages that no longer install; a test holds the two together.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

FFT_SIZES = (2048, 1024, 512, 256, 128, 64)

#: Magnitudes below this count as this, in the logarithm.
FLOOR = 1e-5


def spectral_loss(target: Any, sound: Any) -> Any:
    """Mean absolute differences of magnitudes and of their natural logarithms, summed over six window lengths.

    Args:
        target: [n_sounds, n_samples], float32.
        sound: the same shape.
    """
    loss = tf.constant(0.0)
    for size in FFT_SIZES:
        wanted, found = (_magnitudes(signal, size) for signal in (target, sound))
        loss += tf.reduce_mean(tf.abs(wanted - found))
        loss += tf.reduce_mean(tf.abs(_log(wanted) - _log(found)))
    return loss


def _magnitudes(signal: Any, size: int) -> Any:
    spectrum = tf.signal.stft(signal, frame_length=size, frame_step=size // 4, pad_end=True)
    # The gradient of a magnitude is not finite at zero.
    return tf.sqrt(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)) + 1e-14)


def _log(magnitude: Any) -> Any:
    return tf.math.log(tf.maximum(magnitude, FLOOR))
