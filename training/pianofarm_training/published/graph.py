"""A published model as one differentiable graph: conditioning of some excerpts in, their sound out. Trains nothing, reads no file.

The networks are those of `pianofarm_worker.synth.published`, the layers of several excerpts at once and whole; there they run
chunk by chunk.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pianofarm_training.published import synthesis
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.layers import dense, layer_norm, leaky, stack
from pianofarm_worker.synth.published.moments import EPSILON

_MIDI_NORM = 128.0
_MAXIMUM, _THRESHOLD, _EXPONENT = 2.0, 1e-7, math.log(10.0)

#: The parametric tuning's reference note, pitch translation, slope and asymptote; fixed in the published model.
_A4, _TRANSLATION, _SLOPE, _ASYMPTOTE = 69.0, 64.0, 24.0, 3.51


class Batch(NamedTuple):
    """Some excerpts."""

    notes: Any  #: [n_excerpts, n_frames, n_voices, 2], active pitch 0..127 and onset velocity 0..1
    pitch: Any  #: [n_excerpts, n_frames, n_voices] int32, the active pitch prolonged by the release
    pedal: Any  #: [n_excerpts, n_frames, 4], 0..1
    piano: Any  #: [n_excerpts] int32
    sound: Any  #: [n_excerpts, n_frames * hop], what was recorded


class Graph:
    """A model's weights as variables, and the way from conditioning to sound."""

    def __init__(self, config: PublishedConfig, weights: dict[str, NDArray[np.float32]]) -> None:
        """Make the variables.

        Args:
            config: which model.
            weights: by the names of `variables`.
        """
        self.config = config
        #: Trainable and fixed ones alike, by the names of `variables`.
        self.variables: dict[str, tf.Variable] = {}
        for name, value in weights.items():
            self.variables[name] = tf.Variable(value, name=name.replace("/", "_"), dtype=tf.float32)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The values of all variables, in the order of their names."""
        return {name: variable.numpy() for name, variable in sorted(self.variables.items())}

    def assign(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Take other values."""
        for name, value in weights.items():
            self.variables[name].assign(value)

    def sound(self, batch: Batch, noise: Any) -> Any:
        """What the model plays.

        Args:
            batch: some excerpts; their own sound is not looked at.
            noise: [n_excerpts, n_frames, hop], uniform in [-1, 1).

        Returns:
            Wet sound [n_excerpts, n_frames * hop], and the rooms' responses [n_excerpts, n_samples].
        """
        config = self.config
        n_excerpts, n_frames, n_voices = batch.notes.shape[:3]
        context = self._context(batch)
        logits = self._monophonic(batch, context)
        f0_hz, inharmonicity = self._tune(batch)
        amplitudes, magnitudes = self._controls(logits, batch.pitch, f0_hz, inharmonicity)
        # Only voices with a note at some time: the others have no partials.
        sounding = tf.where(tf.reduce_any(batch.pitch > 0, axis=1))
        partials = synthesis.additive(
            tf.ensure_shape(tf.gather_nd(amplitudes, sounding), [None, n_frames, config.synthesis.n_partials]),
            tf.ensure_shape(
                tf.gather_nd(tf.transpose(f0_hz, (0, 2, 1, 3)), sounding), [None, n_frames, config.tuning.n_strings]
            ),
            tf.ensure_shape(tf.gather_nd(tf.transpose(inharmonicity, (0, 2, 1)), sounding), [None, n_frames]),
            hop=config.hop,
            sample_rate_hz=config.sample_rate_hz,
        )
        placed = tf.scatter_nd(sounding, partials, [n_excerpts, n_voices, n_frames * config.hop])
        power = tf.reduce_sum(tf.square(magnitudes), axis=1)
        dry = tf.reduce_sum(placed, axis=1) + synthesis.filtered_noise(tf.sqrt(power), noise)
        response = self._responses(batch.piano)
        return synthesis.in_room(dry, response, adds_dry=config.reverb.adds_dry), response

    def _of_piano(self, name: str, piano: Any) -> Any:
        return tf.gather(self.variables[name], piano)

    def _normalized(self, y: Any, name: str) -> Any:
        """`Normalize('layer')`: by the moments over frames and channels of each row."""
        mean, variance = tf.nn.moments(y, [1, 2], keepdims=True)
        y = (y - mean) * tf.math.rsqrt(variance + EPSILON)
        return y * self.variables[f"{name}/scale"] + self.variables[f"{name}/shift"]

    def _context(self, batch: Batch) -> Any:
        """[n_excerpts, n_frames, n_context]"""
        net, w = self.config.context, self.variables
        n_excerpts, n_frames = batch.notes.shape[:2]
        heard = tf.reshape(batch.notes / np.array([net.pitch_divisor, 1.0], np.float32), [n_excerpts, n_frames, -1])
        if net.kind == "film":
            heads = [stack(heard, w, "context/notes", 2), stack(batch.pedal, w, "context/pedals", 2)]
            x = leaky(dense(tf.concat(heads, -1), w, "context/dense"))
            x = _gru(x, w, "context/gru")
            x = leaky(layer_norm(dense(x, w, "context/after"), w, "context/after"))
            film = dense(self._of_piano("context/piano", batch.piano), w, "context/film")
            factor, shift = tf.split(film[:, None], 2, axis=-1)
            return stack(x * factor + shift, w, "context/out", 2)
        inputs = [batch.pedal] if net.kind == "pedal" else [heard, batch.pedal]
        if self.config.n_embedding:
            embedding = self._of_piano("context/piano", batch.piano)[:, None]
            inputs.append(tf.repeat(embedding, n_frames, axis=1))
        x = leaky(dense(tf.concat(inputs, -1), w, "context/dense"))
        x = self._normalized(_gru(x, w, "context/gru"), "context/norm")
        return dense(x, w, "context/out")

    def _monophonic(self, batch: Batch, context: Any) -> Any:
        """[n_excerpts, n_voices, n_frames, n_controls]"""
        net, w = self.config.monophonic, self.variables
        n_excerpts, n_frames, n_voices = batch.notes.shape[:3]
        pitch = tf.cast(batch.pitch, tf.float32)[..., None] / _MIDI_NORM
        notes = batch.notes / np.array([_MIDI_NORM, 1.0], np.float32)
        rows = [
            tf.reshape(tf.transpose(x, (0, 2, 1, 3)), [n_excerpts * n_voices, n_frames, -1]) for x in (pitch, notes)
        ]
        shared = tf.repeat(context, n_voices, axis=0)
        if net.kind == "stacks":
            inputs = zip((*rows, shared), ("mono/pitch", "mono/notes", "mono/context"), strict=True)
            x = tf.concat([stack(values, w, name, net.n_layers) for values, name in inputs], -1)
            x = tf.concat([x, _gru(x, w, "mono/gru")], -1)
            y = stack(x, w, "mono/after", net.n_layers)
        else:
            x = leaky(dense(tf.concat([*rows, shared], -1), w, "mono/dense"))
            y = leaky(dense(_gru(x, w, "mono/gru"), w, "mono/after"))
            if net.normalize:
                y = self._normalized(y, "mono/norm")
        return tf.reshape(dense(y, w, "mono/out"), [n_excerpts, n_voices, n_frames, -1])

    def _tune(self, batch: Batch) -> tuple[Any, Any]:
        """Fundamentals [n_excerpts, n_frames, n_voices, n_strings] and inharmonicity [n_excerpts, n_frames, n_voices]."""
        pitch = tf.range(128, dtype=tf.float32)[None]
        f0_hz, inharmonicity = self._tuning_tables(pitch, batch.piano)
        return (
            tf.gather(f0_hz, batch.pitch, batch_dims=1),
            tf.gather(inharmonicity, batch.pitch, batch_dims=1),
        )

    def _tuning_tables(self, pitch: Any, piano: Any) -> tuple[Any, Any]:
        """Of 128 pitches [1, 128]: [n_excerpts, 128, n_strings] in Hz and [n_excerpts, 128]."""
        w, kind = self.variables, self.config.tuning.kind
        if kind == "joint":
            p = {
                name: self._of_piano(f"tuning/{name}", piano)[:, None]
                for name in ("alpha_b", "beta_b", "alpha_t", "beta_t", "pitch_ref", "K", "alpha")
            }

            def joint(x: Any) -> Any:
                return tf.exp(p["alpha_b"] * x + p["beta_b"]) + tf.exp(p["alpha_t"] * x + p["beta_t"])

            rho = 1.0 + p["K"] * (1.0 - tf.tanh((pitch - p["pitch_ref"]) / p["alpha"])) / 2.0
            deviation = 1.0 + joint(p["pitch_ref"]) * tf.square(_hz(pitch) / _hz(p["pitch_ref"]) * rho)
            deviation /= 1.0 + joint(pitch) * tf.square(rho)
            return (_hz(pitch) * tf.sqrt(deviation))[..., None], joint(pitch)

        bass = 0.0
        if self.config.n_embedding:
            bass = (
                w["tuning/model_specific_weight"] * 10.0 * self._of_piano("tuning/piano_inharmonicity", piano)[:, None]
            )
        slopes = w["tuning/slopes"] + w["tuning/slopes_modifier"]
        offsets = w["tuning/offsets"] + w["tuning/offsets_modifier"]

        def bridges(x: Any) -> Any:
            treble, low = (slopes[i] * (x / _MIDI_NORM + offsets[i]) for i in range(2))
            return tf.exp(treble) + tf.exp(low + bass)

        inharmonicity = tf.broadcast_to(bridges(pitch), [piano.shape[0], 128])
        if kind == "parametric":
            rho = 1.0 + (1.0 - tf.tanh((pitch - _TRANSLATION) / _SLOPE)) * (_ASYMPTOTE / 2)
            deviation = 1.0 + bridges(tf.constant([[_A4]])) * tf.square(_hz(pitch) / _hz(tf.constant(_A4)) * rho)
            deviation /= 1.0 + inharmonicity * tf.square(rho)
            return (_hz(pitch) * tf.sqrt(deviation))[..., None], inharmonicity
        detuning = tf.tanh(dense(pitch[..., None] / _MIDI_NORM, w, "tuning/detuner"))
        detuning += tf.tanh(self._of_piano("tuning/piano_detuning", piano))[:, None, None]
        return _hz(pitch[..., None] + detuning), inharmonicity

    def _controls(self, logits: Any, pitch: Any, f0_hz: Any, inharmonicity: Any) -> tuple[Any, Any]:
        """Amplitudes [n_excerpts, n_voices, n_frames, n_partials] and noise magnitudes [..., n_bands]."""
        made = self.config.synthesis
        n = 1 + made.n_partials
        number = tf.range(1, n, dtype=tf.float32)
        first_hz = tf.transpose(f0_hz[..., :1], (0, 2, 1, 3))
        b = tf.transpose(inharmonicity, (0, 2, 1))[..., None]
        partials_hz = tf.stop_gradient(first_hz * number * tf.sqrt(tf.square(number) * b + 1.0))
        audible = tf.cast(partials_hz < self.config.sample_rate_hz / 2, tf.float32)
        sounds = tf.cast(first_hz > made.min_frequency_hz, tf.float32)
        sounds *= tf.cast(tf.transpose(pitch, (0, 2, 1)) > 0, tf.float32)[..., None]
        amplitude = self._positive(logits[..., :1]) * tf.stop_gradient(sounds)
        distribution = self._positive(logits[..., 1:n])
        if made.normalize_audible:
            distribution *= audible
        total = tf.reduce_sum(distribution, axis=-1, keepdims=True)
        amplitudes = distribution * audible * (amplitude / tf.maximum(total, _THRESHOLD))
        return amplitudes, self._positive(logits[..., n:] + made.noise_bias)

    def _positive(self, x: Any) -> Any:
        """`ddsp.core.exp_sigmoid`, or exp_tanh, which is that of twice its argument."""
        gain = 2.0 if self.config.synthesis.scale == "exp_tanh" else 1.0
        return _MAXIMUM * tf.exp(_EXPONENT * tf.math.log_sigmoid(gain * x)) + _THRESHOLD

    def _responses(self, piano: Any) -> Any:
        """[n_excerpts, n_samples]"""
        room = self.config.reverb
        if room.kind == "impulse_response":
            return self._of_piano("reverb/ir", piano)
        names = ("input_gain", "output_gain", "allpass_gain", "allpass_delay", "early", "reverberation_s", "tone")
        shape = (room.n_lines, 4)
        responses = []
        for excerpt in range(piano.shape[0]):
            own = {name: self.variables[f"reverb/{name}"][piano[excerpt]] for name in names}
            for name in ("allpass_gain", "allpass_delay"):
                own[name] = (
                    tf.reshape(own[name], shape)
                    if room.learned_delays
                    else tf.transpose(tf.reshape(own[name], shape[::-1]))
                )
            lines = (
                self.variables["reverb/delay"][piano[excerpt]]
                if room.learned_delays
                else tf.constant(room.fixed_delays, tf.float32)
            )
            responses.append(synthesis.delay_network_response(own, lines, self.config.sample_rate_hz))
        return tf.stack(responses)


def _gru(x: Any, weights: dict[str, Any], name: str) -> Any:
    """Keras' GRU (reset after the product) over [n_rows, n_frames, n_in]; the products of the inputs are taken out of the loop."""
    given = tf.transpose(tf.matmul(x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"][0], (1, 0, 2))
    recurrent, bias = weights[f"{name}/recurrent_kernel"], weights[f"{name}/bias"][1]

    def step(state: Any, now: Any) -> Any:
        kept = tf.matmul(state, recurrent) + bias
        update_in, reset_in, candidate_in = tf.split(now, 3, axis=-1)
        update_kept, reset_kept, candidate_kept = tf.split(kept, 3, axis=-1)
        update = tf.sigmoid(update_in + update_kept)
        candidate = tf.tanh(candidate_in + tf.sigmoid(reset_in + reset_kept) * candidate_kept)
        return update * state + (1.0 - update) * candidate

    start = tf.zeros([x.shape[0], recurrent.shape[0]])
    return tf.transpose(tf.scan(step, given, start), (1, 0, 2))


def _hz(pitch: Any) -> Any:
    return 440.0 * tf.pow(2.0, (pitch - 69.0) / 12.0)
