"""Learned parameters -> a model folder: safetensors, configuration, card. Trains nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from pianofarm_training.analysis import KeyAnalysis
from pianofarm_training.tuning import Tuning, equal_tempered_hz, typical_inharmonicity
from pianofarm_worker.synth.house.layout import Layout

#: A key further from the smooth curve than this is out of tune, which the model is not to copy, in cents.
OUT_OF_TUNE_CENTS = 6.0

_PITCHES = np.arange(21, 109)


def tuning_parameters(analyses: list[KeyAnalysis]) -> dict[str, NDArray[np.float32]]:
    """What was measured rather than trained: where the partials of each key are, and how they begin."""
    n_keys, n_partials = len(analyses), max(len(a.offset_hz) for a in analyses)
    law_hz = [Tuning(a.f0_hz, a.inharmonicity).partials_hz(len(a.offset_hz)) for a in analyses]
    frequency_hz = np.full((n_keys, n_partials), 1000.0, np.float32)
    cents = np.zeros((n_keys, n_partials), np.float32)
    phase = np.zeros((n_keys, 2, n_partials), np.float32)
    for key, (a, hz) in enumerate(zip(analyses, law_hz, strict=True)):
        frequency_hz[key, : len(hz)] = hz + a.offset_hz
        cents[key, : len(hz)] = 1200 * np.log2(1 + a.offset_hz / hz)
        phase[key, :, : len(hz)] = a.phase
    f0_hz, inharmonicity = tuning_curves(analyses)
    return {
        "tuning.pitch": np.array([a.pitch for a in analyses], np.float32),
        "tuning.n_partials": np.array([len(hz) for hz in law_hz], np.float32),
        "tuning.frequency_hz": frequency_hz,
        "tuning.offset_cents": cents,
        "tuning.phase": phase,
        "tuning.rise_s": np.array([a.rise_s for a in analyses], np.float32),
        "curve.f0_hz": f0_hz,
        "curve.inharmonicity": inharmonicity,
    }


def tuning_curves(analyses: list[KeyAnalysis]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fundamental and inharmonicity of all 88 keys: a smooth stretch, and of each recorded key what is plausible beside it."""
    pitch = np.array([a.pitch for a in analyses], float)
    cents = np.array([1200 * np.log2(a.f0_hz / equal_tempered_hz(a.pitch)) for a in analyses])
    stretch = _smooth(pitch, cents, scale=3.0)
    rest = np.clip(cents - stretch(pitch), -OUT_OF_TUNE_CENTS, OUT_OF_TUNE_CENTS)
    all_cents = stretch(_PITCHES.astype(float)) + np.interp(_PITCHES, pitch, rest)
    f0_hz = np.array([equal_tempered_hz(float(p)) for p in _PITCHES]) * 2 ** (all_cents / 1200)
    log_ratio = np.array([np.log(a.inharmonicity / typical_inharmonicity(a.pitch)) for a in analyses])
    ratio = np.interp(_PITCHES, pitch, np.clip(log_ratio, -1.0, 1.0))
    b = np.array([typical_inharmonicity(float(p)) for p in _PITCHES]) * np.exp(ratio)
    return f0_hz.astype(np.float32), b.astype(np.float32)


def _smooth(x: NDArray[np.float64], y: NDArray[np.float64], scale: float) -> Any:
    """A cubic through most of the points; outliers count little."""
    degree = min(3, max(0, len(x) - 2))

    def error(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.polyval(coefficients, (x - 64) / 44) - y)

    found = least_squares(error, np.zeros(degree + 1), loss="cauchy", f_scale=scale).x
    return lambda at: np.polyval(found, (at - 64) / 44)


def export(
    folder: Path,
    name: str,
    parameters: dict[str, NDArray[np.float32]],
    layout: Layout,
    config: dict[str, Any],
    card: str,
) -> None:
    """Write a model folder.

    Args:
        folder: made where it is missing; files there are replaced.
        name: of the model.
        parameters: networks and tuning, float32.
        layout: of the model.
        config: what else the configuration holds: credit, training facts, output gain.
        card: the model card, Markdown.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(value) for key, value in sorted(parameters.items())}, folder / WEIGHTS_FILE)
    whole = {
        "name": name,
        "architecture": "house",
        "channels": 2,
        "n_pianos": 1,
        "default_piano": 0,
        "max_polyphony": None,
        **layout.to_config(),
        **config,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(whole, indent=2) + "\n")
    (folder / CARD_FILE).write_text(card)
