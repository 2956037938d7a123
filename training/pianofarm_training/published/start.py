"""Weights to start training a published architecture from, drawn from one seed; none of them was learned. No graphs here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.variables import Variable, variables

_MIDI_NORM = 128.0

#: Inharmonicity of a piano's two bridges, slope and intercept over MIDI pitch (Rigaud et al., DAFx 2011): treble, bass.
_SLOPES, _INTERCEPTS = (9.26e-2, -8.47e-2), (-13.64, -5.82)

#: The same, and the stretch of octaves (reference, asymptote, slope), as the joint model of tuning has them.
_JOINT = {
    "alpha_b": _SLOPES[1],
    "beta_b": _INTERCEPTS[1],
    "alpha_t": _SLOPES[0],
    "beta_t": _INTERCEPTS[0],
    "pitch_ref": 64.0,
    "K": 3.51,
    "alpha": 24.0,
}

#: Mean and standard deviation of the delay networks' weights, as its authors draw them; times in seconds or samples.
_DELAY_NETWORK = {
    "input_gain": (0.25, 0.1),
    "output_gain": (0.25, 0.1),
    "allpass_gain": (0.25, 0.1),
    "allpass_delay": (400.0, 60.0),
    "delay": (400.0, 60.0),
    "early": (0.0, 0.1),
    "reverberation_s": (2.0, 0.5),
    "tone": (0.0, 0.1),
}

#: A learned impulse response starts next to silent.
_RESPONSE_DEVIATION = 1e-6

#: Seconds that a string goes on after its key is up; not trained, as in the published models.
RELEASE_S = 1.0


def initial_weights(config: PublishedConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights by the names of `variables`: kernels Glorot, recurrent ones orthogonal, the rest as DDSP-Piano starts it.

    Args:
        config: which model.
        seed: of all random numbers.
    """
    random = np.random.default_rng(seed)
    return {v.name: np.asarray(_draw(v, random), np.float32).reshape(v.shape) for v in variables(config)}


def _draw(variable: Variable, random: np.random.Generator) -> NDArray[np.float64]:
    room, _, last = variable.name.rpartition("/")
    shape = variable.shape
    if variable.name == "release_s":
        return np.array(RELEASE_S)
    if room == "tuning":
        return _tuning(last, shape)
    if variable.name == "tuning/detuner/kernel":
        return np.zeros(shape)
    if variable.name == "reverb/ir":
        return random.normal(0.0, _RESPONSE_DEVIATION, shape)
    if room == "reverb":
        return random.normal(*_DELAY_NETWORK[last], shape)
    if last == "recurrent_kernel":
        # One orthogonal matrix a gate.
        n = shape[0]
        return np.concatenate([np.linalg.qr(random.normal(size=(n, n)))[0] for _ in range(shape[1] // n)], axis=1)
    if last == "kernel":
        limit = np.sqrt(6 / (shape[0] + shape[1]))
        return random.uniform(-limit, limit, shape)
    if last == "piano":
        return random.uniform(-0.05, 0.05, shape)
    return np.ones(shape) if last in ("gamma", "scale") else np.zeros(shape)


def _tuning(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if name == "slopes":
        return np.array(_SLOPES) * _MIDI_NORM
    if name == "offsets":
        return np.array(_INTERCEPTS) / (_MIDI_NORM * np.array(_SLOPES))
    return np.full(shape, _JOINT.get(name, 0.0))
