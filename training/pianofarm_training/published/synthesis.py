"""The synthesizers of the published models as TensorFlow graphs with gradients: partials, noise, room. No networks, no files.

They give what `pianofarm_worker.synth`'s additive, noise and reverb give, which cannot be differentiated; tests hold them together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf


def additive(amplitudes: Any, f0_hz: Any, inharmonicity: Any, *, hop: int, sample_rate_hz: int) -> Any:
    """Sums of partials, one voice after the other, so that the memory is that of one.

    Args:
        amplitudes: [n_voices, n_frames, n_partials], all strings together.
        f0_hz: [n_voices, n_frames, n_strings].
        inharmonicity: [n_voices, n_frames], B >= 0.
        hop: samples a frame.
        sample_rate_hz: of the sound.

    Returns:
        [n_voices, n_frames * hop].
    """
    n_frames, n_partials = amplitudes.shape[1], amplitudes.shape[2]
    number = tf.range(1, n_partials + 1, dtype=tf.float32)
    since = np.arange(hop, dtype=np.float32)
    fade_in = tf.constant((0.5 - 0.5 * np.cos(np.pi * since / hop)).astype(np.float32)[None, :, None])
    at = tf.constant((since + 1)[None, :, None])
    swept = tf.constant((since * (since + 1) / (2 * hop)).astype(np.float32)[None, :, None])

    def voice(level: Any, fundamental: Any, b: Any) -> Any:
        """One voice. [n_frames * hop]"""
        stretch = number * tf.sqrt(tf.square(number) * b[:, None] + 1.0)
        n_strings = fundamental.shape[-1]
        sound = tf.zeros([n_frames, hop])
        later_level = tf.concat([level[1:], level[-1:]], axis=0)
        for string in range(n_strings):
            turns = fundamental[:, string : string + 1] * stretch / sample_rate_hz
            change = tf.concat([turns[1:], turns[-1:]], axis=0) - turns
            advance = tf.cast(turns * hop + change * ((hop - 1) / 2), tf.float64)
            phase = tf.cast(tf.math.floormod(tf.cumsum(advance, axis=0, exclusive=True), 1.0), tf.float32)
            heard = tf.cast(turns < 0.5, tf.float32)[:, None, :]
            envelope = level[:, None, :] * (1.0 - fade_in) + later_level[:, None, :] * fade_in
            angle = phase[:, None, :] + turns[:, None, :] * at + change[:, None, :] * swept
            angle = angle - tf.stop_gradient(tf.round(angle))
            sound += tf.reduce_sum(heard * envelope * tf.cos(2 * math.pi * angle), axis=-1)
        return tf.reshape(sound / n_strings, [-1])

    again = tf.recompute_grad(voice)
    return tf.map_fn(
        lambda x: again(*x),
        (amplitudes, f0_hz, inharmonicity),
        fn_output_signature=tf.TensorSpec([n_frames * hop], tf.float32),
    )


def filtered_noise(magnitudes: Any, noise: Any) -> Any:
    """White noise filtered frame by frame.

    Args:
        magnitudes: [n_sounds, n_frames, n_bands], linear, those of all voices together (their powers add).
        noise: [n_sounds, n_frames, hop], uniform in [-1, 1).

    Returns:
        [n_sounds, n_frames * hop].
    """
    n_frames, n_bands, hop = magnitudes.shape[1], magnitudes.shape[2], noise.shape[2]
    length = 2 * (n_bands - 1)
    response = tf.roll(tf.signal.irfft(_complex(magnitudes), [length]), length // 2, axis=-1)
    response *= tf.signal.hann_window(length)
    n_fft = 1 << (hop + length - 2).bit_length()
    spectrum = tf.signal.rfft(response, [n_fft]) * tf.signal.rfft(noise, [n_fft])
    sound = tf.signal.overlap_and_add(tf.signal.irfft(spectrum, [n_fft]), hop)
    delay = n_bands - 3  # as ddsp takes it out
    return sound[:, delay : delay + n_frames * hop]


def in_room(dry: Any, response: Any, *, adds_dry: bool) -> Any:
    """Sound in a room.

    Args:
        dry: [n_sounds, n_samples].
        response: [n_sounds, n_response].
        adds_dry: whether the dry sound passes beside the room, the response's first sample being ignored.
    """
    n_samples, n_response = dry.shape[1], response.shape[1]
    if adds_dry:
        response = tf.concat([tf.zeros_like(response[:, :1]), response[:, 1:]], axis=1)
    n_fft = 1 << (n_samples + n_response - 2).bit_length()
    wet = tf.signal.irfft(tf.signal.rfft(dry, [n_fft]) * tf.signal.rfft(response, [n_fft]), [n_fft])[:, :n_samples]
    return wet + dry if adds_dry else wet


def delay_network_response(own: dict[str, Any], delay_samples: Any, sample_rate_hz: int) -> Any:
    """The impulse response of one feedback delay network; see `pianofarm_worker.synth.feedback_delay`.

    Args:
        own: input_gain, output_gain [n_lines], allpass_gain, allpass_delay [n_lines, n_allpasses], reverberation_s, tone [],
            early [n_early].
        delay_samples: [n_lines].
        sample_rate_hz: of the room; the response is two seconds long.

    Returns:
        [2 * sample_rate_hz].
    """
    n_samples = 2 * sample_rate_hz
    omega = tf.constant((2 * np.pi * np.arange(n_samples // 2 + 1) / n_samples).astype(np.float32)[:, None])
    unit = _rotation(-omega)
    whole = tf.floor(delay_samples)
    fraction = _complex(delay_samples - whole)
    eta = (1 - fraction) / (1 + fraction)
    delay = _rotation(-omega * whole) * (eta + unit) / (1 + eta * unit)
    gain = _complex(own["allpass_gain"])
    advance = _rotation(omega[:, :, None] * own["allpass_delay"])
    allpass = tf.reduce_prod((1 + gain * advance) / (gain + advance), axis=-1)
    loop_s = (delay_samples + tf.reduce_sum(own["allpass_delay"], axis=-1)) / sample_rate_hz
    reverberation_s = tf.maximum(own["reverberation_s"], 0.05)
    bass = tf.pow(10.0, -3 * loop_s / reverberation_s)
    treble = tf.pow(10.0, -3 * loop_s / (reverberation_s * tf.sigmoid(own["tone"])))
    level = _complex(2 * bass * treble / (bass + treble))
    damping = level / (1 - _complex((bass - treble) / (bass + treble)) * unit)
    n_lines = delay_samples.shape[0]
    mixing = tf.constant((0.5 * np.ones((n_lines, n_lines)) - np.eye(n_lines)).astype(np.complex64))
    feedback = damping[:, :, None] * mixing * (allpass * delay)[:, None, :]
    given = tf.broadcast_to(_complex(own["input_gain"])[:, None], [omega.shape[0], n_lines, 1])
    lines = tf.linalg.solve(tf.eye(n_lines, dtype=tf.complex64) - feedback, given)[..., 0]
    late = tf.reduce_sum(_complex(own["output_gain"]) * delay * lines, axis=-1)
    early = own["early"][:n_samples]
    return tf.signal.irfft(late, [n_samples]) + tf.pad(early, [[0, n_samples - early.shape[0]]])


def _rotation(angle: Any) -> Any:
    return tf.complex(tf.cos(angle), tf.sin(angle))


def _complex(x: Any) -> Any:
    return tf.complex(x, tf.zeros_like(x))
