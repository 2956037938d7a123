"""From MIDI pitch to string frequencies and inharmonicity, per piano: tables over the 128 pitches. No time, no audio.

Rigaud, David, Daudet, "A parametric model of piano tuning", DAFx 2011. Computed in float32 in the order of the published code
(`single` says why).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.published import single
from pianofarm_worker.synth.published.configs import PublishedConfig

_Array = NDArray[np.float32]
_PITCHES = np.arange(128, dtype=np.float32)
_MIDI_NORM = np.float32(128.0)

#: The parametric tuning's reference note (A4), pitch translation, decrease slope and bass asymptote; fixed in the published model.
_A4, _TRANSLATION, _SLOPE, _ASYMPTOTE = (np.float32(x) for x in (69.0, 64.0, 24.0, 4.51 - 1.0))


@dataclass(frozen=True)
class TuningTables:
    """What every pitch of one piano sounds at."""

    f0_hz: _Array  #: [128, n_strings]; row 0, "no note", is 8.2 Hz
    inharmonicity: _Array  #: [128], B of f_k = k f0 sqrt(1 + B k^2), >= 0


def tuning_tables(config: PublishedConfig, weights: dict[str, _Array], piano: int) -> TuningTables:
    """The tables of one piano of a model."""
    if config.tuning.kind == "joint":
        return _joint(
            {name.removeprefix("tuning/"): w[piano] for name, w in weights.items() if name.startswith("tuning/")}
        )
    bass = weights["tuning/piano_inharmonicity"][piano] if "tuning/piano_inharmonicity" in weights else None
    inharmonicity = _inharmonicity(_PITCHES, weights, bass)
    if config.tuning.kind == "parametric":
        stretch = np.float32(1) + (np.float32(1) - single.tanh((_PITCHES - _TRANSLATION) / _SLOPE)) * (
            _ASYMPTOTE / np.float32(2)
        )
        ratio = _midi_to_hz(_PITCHES) / _midi_to_hz(_A4)
        deviation = np.float32(1) + _inharmonicity(np.array([_A4]), weights, bass) * (ratio * stretch) ** 2
        deviation /= np.float32(1) + inharmonicity * stretch**2
        return TuningTables((_midi_to_hz(_PITCHES) * np.sqrt(deviation))[:, None], inharmonicity)
    detuning = single.tanh(
        (_PITCHES / _MIDI_NORM)[:, None] @ weights["tuning/detuner/kernel"] + weights["tuning/detuner/bias"]
    )
    detuning += single.tanh(weights["tuning/piano_detuning"][piano])
    return TuningTables(_midi_to_hz(_PITCHES[:, None] + detuning), inharmonicity)


def _midi_to_hz(pitch: _Array | np.float32) -> _Array:
    hz: _Array = np.float32(440.0) * single.exp2((pitch - np.float32(69.0)) / np.float32(12.0))
    return hz


def _inharmonicity(pitch: _Array, weights: dict[str, _Array], bass: np.float32 | None) -> _Array:
    """[n] inharmonicity of `pitch` [n]: the sum of a treble and a bass bridge; `bass` shifts the latter, for one piano."""
    slopes = weights["tuning/slopes"] + weights["tuning/slopes_modifier"]
    offsets = weights["tuning/offsets"] + weights["tuning/offsets_modifier"]
    bridges = slopes * ((pitch / _MIDI_NORM)[:, None] + offsets)
    if bass is not None:
        bridges = bridges + weights["tuning/model_specific_weight"] * np.array(
            [0.0, bass * np.float32(10.0)], np.float32
        )
    total: _Array = single.exp(bridges).sum(axis=-1)
    return total


def _joint(p: dict[str, np.float32]) -> TuningTables:
    def inharmonicity(pitch: _Array | np.float32) -> _Array:
        total: _Array = single.exp(p["alpha_b"] * pitch + p["beta_b"]) + single.exp(p["alpha_t"] * pitch + p["beta_t"])
        return total

    reference = p["pitch_ref"]
    ratio = _midi_to_hz(_PITCHES) / _midi_to_hz(reference)
    rho = np.float32(1) + p["K"] * (np.float32(1) - single.tanh((_PITCHES - reference) / p["alpha"])) / np.float32(2)
    deviation = np.float32(1) + inharmonicity(reference) * (ratio * rho) ** 2
    deviation = deviation / (np.float32(1) + inharmonicity(_PITCHES) * rho**2)
    return TuningTables((_midi_to_hz(_PITCHES) * np.sqrt(deviation))[:, None], inharmonicity(_PITCHES))
