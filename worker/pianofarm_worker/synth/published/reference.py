"""The oracle: the published models built plainly from Keras layers and `ddsp.core`, whole performance at once. TensorFlow only.

Shares nothing with the engine but configuration, weights and (for the room) the delay network's response. For tests and for
judging a new engine; it needs ddsp (the dependency group `oracle`) and gigabytes a minute.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pianofarm_common.errors import BadSettings
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.room import learned_response

_Array = NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceControls:
    """Every control of a performance, before scaling; as the parity fixtures name them."""

    extended_pitch: _Array  #: [n_voices, n_frames]
    context: _Array  #: [n_frames, n_context]
    amplitudes: _Array  #: [n_voices, n_frames, 1]
    harmonic_distribution: _Array  #: [n_voices, n_frames, n_partials]
    magnitudes: _Array  #: [n_voices, n_frames, n_bands]
    inharm_coef: _Array  #: [n_voices, n_frames, 1]
    f0_hz: _Array  #: [n_voices, n_frames, n_strings]


@lru_cache(maxsize=1)
def load_ddsp_core() -> ModuleType:
    """`ddsp.core` without the rest of ddsp, whose pitch trackers and audio loaders need packages that cannot be had any more.

    Raises:
        BadSettings: ddsp is not installed.
    """
    package = importlib.util.find_spec("ddsp")
    if package is None or not package.submodule_search_locations:
        raise BadSettings("ddsp is not installed (it comes with requirements/dev.txt)")
    path = os.path.join(package.submodule_search_locations[0], "core.py")
    spec = importlib.util.spec_from_file_location("pianofarm_ddsp_core", path)
    if spec is None or spec.loader is None:
        raise BadSettings(f"{path} cannot be loaded (install ddsp again)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Reference:
    """One piano of a published model, as its authors compute it."""

    def __init__(self, config: PublishedConfig, weights: dict[str, _Array], piano: int) -> None:
        self._config, self._weights, self._piano = config, weights, piano
        self._core = load_ddsp_core()

    def controls(self, notes: _Array, pedal: _Array) -> ReferenceControls:
        """Conditioning [n_frames, n_voices, 2] and pedals [n_frames, 4] -> every control."""
        config = self._config
        pitch = self._extend(notes[..., 0].T)
        context = self._context(notes, pedal)
        out = self._monophonic(np.moveaxis(notes, 1, 0), pitch, context)
        f0_hz, inharm_coef = self._tune(tf.constant(pitch))
        n = 1 + config.synthesis.n_partials
        return ReferenceControls(
            extended_pitch=pitch[..., 0],
            context=context.numpy(),
            amplitudes=out[..., :1].numpy(),
            harmonic_distribution=out[..., 1:n].numpy(),
            magnitudes=out[..., n:].numpy(),
            inharm_coef=inharm_coef.numpy(),
            f0_hz=f0_hz.numpy(),
        )

    def synthesize(self, notes: _Array, pedal: _Array, *, seed: int) -> tuple[_Array, _Array]:
        """Conditioning to dry and wet audio, each [n_samples]."""
        controls = self.controls(notes, pedal)
        dry = tf.zeros([1, len(notes) * self._config.hop])
        random = tf.random.Generator.from_seed(seed)
        for voice in range(self._config.n_voices):
            if controls.extended_pitch[voice].any():
                dry += self._additive(controls, voice)
            noise = random.uniform(dry.shape, -1.0, 1.0)
            magnitudes = self._scale(controls.magnitudes[voice][None] + self._config.synthesis.noise_bias)
            window = self._config.synthesis.noise_window
            dry += self._core.frequency_filter(noise, magnitudes, window_size=window)
        ir = learned_response(self._config, self._weights, self._piano)[None].copy()
        if self._config.reverb.adds_dry:
            ir[:, 0] = 0.0
        wet = self._core.fft_convolve(dry, ir, padding="same", delay_compensation=0)
        if self._config.reverb.adds_dry:
            wet += dry
        return dry.numpy()[0], wet.numpy()[0]

    def _extend(self, pitch: _Array) -> _Array:
        """Frame by frame: the last pitch is held for the release. [n_voices, n_frames] -> [n_voices, n_frames, 1]."""
        release = float(self._weights["release_s"]) * self._config.frame_rate_hz
        held, steps = np.zeros(len(pitch), np.float32), np.zeros(len(pitch), np.float32)
        extended = np.zeros((*pitch.shape, 1), np.float32)
        for frame in range(pitch.shape[1]):
            active, ended = pitch[:, frame] > 0, steps > release
            held = np.where(active, pitch[:, frame], np.where(ended, 0.0, held))
            steps = np.where(active | ended, 0.0, steps + 1)
            extended[:, frame, 0] = held
        return extended

    def _dense(self, x: Any, name: str) -> Any:
        return tf.matmul(x, self._weights[f"{name}/kernel"]) + self._weights[f"{name}/bias"]

    def _stack(self, x: Any, name: str, n_layers: int) -> Any:
        for i in range(n_layers):
            x = tf.nn.leaky_relu(self._layer_norm(self._dense(x, f"{name}/{i}"), f"{name}/{i}"))
        return x

    def _layer_norm(self, x: Any, name: str) -> Any:
        layer = keras.layers.LayerNormalization()
        layer.build(x.shape)
        layer.set_weights([self._weights[f"{name}/gamma"], self._weights[f"{name}/beta"]])
        return layer(x)

    def _gru(self, x: Any, name: str, n_units: int) -> Any:
        layer = keras.layers.GRU(n_units, return_sequences=True)
        layer.build(x.shape)
        layer.set_weights([self._weights[f"{name}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")])
        return layer(x)

    def _normalize(self, x: Any, name: str) -> Any:
        """`ddsp.training.nn.Normalize('layer')`: over time and channels."""
        mean, variance = tf.nn.moments(tf.cast(x, tf.float64), [1, 2], keepdims=True)
        normalized = tf.cast((tf.cast(x, tf.float64) - mean) / tf.sqrt(variance + 1e-5), tf.float32)
        return normalized * self._weights[f"{name}/scale"] + self._weights[f"{name}/shift"]

    def _context(self, notes: _Array, pedal: _Array) -> Any:
        """[n_frames, n_context]."""
        net = self._config.context
        heard = (notes / np.array([net.pitch_divisor, 1.0], np.float32)).reshape(1, len(notes), -1).astype(np.float32)
        if net.kind == "film":
            heads = [self._stack(heard, "context/notes", 2), self._stack(pedal[None], "context/pedals", 2)]
            x = tf.nn.leaky_relu(self._dense(tf.concat(heads, -1), "context/dense"))
            x = self._dense(self._gru(x, "context/gru", net.n_gru), "context/after")
            x = tf.nn.leaky_relu(self._layer_norm(x, "context/after"))
            film = self._dense(self._weights["context/piano"][self._piano][None], "context/film")
            factor, shift = tf.split(film, 2, axis=-1)
            return self._stack(x * factor + shift, "context/out", 2)[0]
        inputs = [pedal[None]] if net.kind == "pedal" else [heard, pedal[None]]
        if self._config.n_embedding:
            inputs.append(np.tile(self._weights["context/piano"][self._piano], (1, len(notes), 1)))
        x = tf.nn.leaky_relu(self._dense(tf.concat(inputs, -1), "context/dense"))
        x = self._normalize(self._gru(x, "context/gru", net.n_gru), "context/norm")
        return self._dense(x, "context/out")[0]

    def _monophonic(self, notes: _Array, pitch: _Array, context: Any) -> Any:
        """[n_voices, n_frames, n_controls]."""
        net = self._config.monophonic
        scaled = notes / np.array([128.0, 1.0], np.float32)
        everybody = tf.repeat(context[None], len(notes), axis=0)
        if net.kind == "stacks":
            inputs = (pitch / np.float32(128.0), "mono/pitch"), (scaled, "mono/notes"), (everybody, "mono/context")
            x = tf.concat([self._stack(values, name, net.n_layers) for values, name in inputs], -1)
            x = tf.concat([x, self._gru(x, "mono/gru", net.n_gru)], -1)
            return self._dense(self._stack(x, "mono/after", net.n_layers), "mono/out")
        x = tf.concat([pitch / np.float32(128.0), scaled, everybody], -1)
        x = self._gru(tf.nn.leaky_relu(self._dense(x, "mono/dense")), "mono/gru", net.n_gru)
        x = tf.nn.leaky_relu(self._dense(x, "mono/after"))
        if net.normalize:
            x = self._normalize(x, "mono/norm")
        return self._dense(x, "mono/out")

    def _tune(self, pitch: Any) -> tuple[Any, Any]:
        """Fundamentals [n_voices, n_frames, n_strings] in Hz and inharmonicity [n_voices, n_frames, 1]."""
        hz, kind = self._core.midi_to_hz, self._config.tuning.kind
        own = {name.removeprefix("tuning/"): w for name, w in self._weights.items() if name.startswith("tuning/")}
        if kind == "joint":
            p = {name: w[self._piano] for name, w in own.items()}

            def inharmonicity(x: Any) -> Any:
                return tf.exp(p["alpha_b"] * x + p["beta_b"]) + tf.exp(p["alpha_t"] * x + p["beta_t"])

            reference = tf.constant(p["pitch_ref"])
            rho = 1.0 + p["K"] * (1.0 - tf.tanh((pitch - reference) / p["alpha"])) / 2.0
            deviation = 1.0 + inharmonicity(reference) * (hz(pitch) / hz(reference) * rho) ** 2
            deviation /= 1.0 + inharmonicity(pitch) * rho**2
            return hz(pitch) * tf.sqrt(deviation), inharmonicity(pitch)

        def bridges(x: Any) -> Any:
            asymptotes = (own["slopes"] + own["slopes_modifier"]) * (
                x / 128.0 + (own["offsets"] + own["offsets_modifier"])
            )
            if "piano_inharmonicity" in own:
                bass = 10.0 * own["piano_inharmonicity"][self._piano]
                asymptotes += own["model_specific_weight"] * np.array([0.0, bass], np.float32)
            return tf.reduce_sum(tf.exp(asymptotes), axis=-1, keepdims=True)

        if kind == "parametric":
            stretch = (1.0 - tf.tanh((pitch - 64.0) / 24.0)) * ((4.51 - 1.0) / 2.0) + 1.0
            deviation = 1.0 + bridges(tf.constant([69.0])) * (hz(pitch) / hz(69.0) * stretch) ** 2
            deviation /= 1.0 + bridges(pitch) * stretch**2
            return hz(pitch) * tf.sqrt(deviation), bridges(pitch)
        detuning = tf.tanh(pitch / 128.0 * own["detuner/kernel"] + own["detuner/bias"])
        return hz(pitch + (detuning + np.tanh(own["piano_detuning"][self._piano]))), bridges(pitch)

    def _scale(self, x: Any) -> Any:
        if self._config.synthesis.scale == "exp_sigmoid":
            return self._core.exp_sigmoid(x)
        return 2.0 * (0.5 * (tf.tanh(x) + 1.0)) ** tf.math.log(10.0) + 1e-7

    def _additive(self, controls: ReferenceControls, voice: int) -> Any:
        """[1, n_samples]: all strings of a voice."""
        config, core = self._config, self._core
        f0_hz, inharm_coef = controls.f0_hz[voice][None], np.maximum(controls.inharm_coef[voice][None], 0.0)
        number = np.arange(1, config.synthesis.n_partials + 1, dtype=np.float32)
        shifts = tf.sqrt(number**2 * inharm_coef + 1.0)
        distribution = self._scale(controls.harmonic_distribution[voice][None])
        if not config.synthesis.normalize_audible:
            distribution = core.safe_divide(distribution, tf.reduce_sum(distribution, axis=-1, keepdims=True))
        distribution = core.remove_above_nyquist(f0_hz[..., :1] * number * shifts, distribution, config.sample_rate_hz)
        if config.synthesis.normalize_audible:
            distribution = core.safe_divide(distribution, tf.reduce_sum(distribution, axis=-1, keepdims=True))
        audible = (f0_hz[..., :1] > config.synthesis.min_frequency_hz).astype(np.float32)
        amplitudes = self._scale(controls.amplitudes[voice][None]) * audible / config.tuning.n_strings * distribution
        n_samples = f0_hz.shape[1] * config.hop
        envelopes = core.resample(amplitudes, n_samples, method="window")
        audio = tf.zeros([1, n_samples])
        for string in range(config.tuning.n_strings):
            frequency_hz = core.resample(f0_hz[..., string : string + 1] * number * shifts, n_samples)
            heard = core.remove_above_nyquist(frequency_hz, envelopes, config.sample_rate_hz)
            phases = core.angular_cumsum(frequency_hz * (2.0 * np.pi) / float(config.sample_rate_hz))
            audio += tf.reduce_sum(heard * tf.cos(phases), axis=-1)
        return audio
