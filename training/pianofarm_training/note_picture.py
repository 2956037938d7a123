"""The steps of one note (`note_steps`) as one PNG, a panel a step, in the order in which they are made. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.note_steps import Steps
from pianofarm_training.separation import weights

#: Partials and bands that are drawn, of those there are: partials by their number, bands by the frequency they are nearest to.
PARTIALS, BANDS_HZ = (1, 2, 4, 8, 16, 28), (200.0, 800.0, 2500.0, 8000.0)

#: What was measured, what the networks say, what was kept from them.
_MEASURED, _PREDICTED, _HELD_OUT, _FAINT = "#555555", "#c03a2b", "#1f6fb2", "#c4c4c4"

_LINE = 1.1


def draw_steps(steps: Steps, whole: tuple[NDArray[np.float32], NDArray[np.float32]], path: Path) -> None:
    """Twelve panels.

    Args:
        steps: of a key.
        whole: the recorded note and the model's, [n_samples, 2] each, from the onset.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    panels: tuple[tuple[str, Callable[[Any, Steps], None]], ...] = (
        ("high-passed, cut at its onset; over ms", _onset),
        ("spectrum of loud layers, dB above its floor, over kHz; the law's places", _spectrum),
        ("cents from k f0 sqrt(1 + B k²), over k", _cents),
        ("levels of partials, dB over s", _levels),
        ("heard: partials over s (grey: not)", _heard),
        ("what the partials leave, and the model's knock; over ms", _residual),
        (f"partial {_middle(steps)}: every layer less its gain, dB over s", _separation),
        ("gain by velocity, dB (rings: layers held out)", _gains),
        ("levels of partials, measured and predicted, dB over s", _predicted),
        ("noise per Hz, measured and predicted, dB over s", _noise),
        ("noise of the key let go, measured and predicted, dB over s", _release),
        ("the whole note's level, recorded and rendered, dB over s", lambda axis, s: _whole(axis, s, *whole)),
    )
    figure, axes = plt.subplots(4, 3, figsize=(15, 14.5))
    for number, (axis, (title, panel)) in enumerate(zip(axes.ravel(), panels, strict=True), 1):
        panel(axis, steps)
        axis.set_title(f"{number}. {title}", fontsize=9, loc="left")
        axis.tick_params(labelsize=7)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, frameon=False)
    kept = "held out" if steps.layer in steps.held_out else "learned from"
    figure.suptitle(
        f"key {steps.pitch}, layer {steps.layer + 1} of {len(steps.velocities)} ({kept}), left channel;"
        f" f0 {steps.law.f0_hz:.2f} Hz, B {steps.law.inharmonicity:.2e}",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(path, dpi=80)
    plt.close(figure)
    # A palette of 64 colours: a third of the size.
    with Image.open(path) as drawn:
        fewer = drawn.convert("RGB").quantize(64)
    fewer.save(path, optimize=True)


def _shown(steps: Steps) -> list[int]:
    """Indices of the partials that are drawn."""
    return [k - 1 for k in PARTIALS if k <= len(steps.offset_hz)]


def _middle(steps: Steps) -> int:
    """Number of the one partial that is drawn at all layers."""
    return min(4, len(steps.offset_hz))


def _colours(n: int) -> Any:
    import matplotlib as mpl

    return mpl.colormaps["viridis"](np.linspace(0.0, 0.85, n))


def _onset(axis: Any, steps: Steps) -> None:
    first, last = max(0, steps.onset - round(0.03 * steps.rate_hz)), steps.onset + round(0.02 * steps.rate_hz)
    time_ms = (np.arange(first, last) - steps.onset) / steps.rate_hz * 1000
    axis.plot(time_ms, steps.raw[first:last], color=_FAINT, linewidth=1.8, label="as recorded")
    axis.plot(time_ms, steps.high_passed[first:last], color=_MEASURED, linewidth=0.7, label="high-passed")
    axis.axvline(0, color=_PREDICTED, linewidth=_LINE, label="onset")


def _spectrum(axis: Any, steps: Steps) -> None:
    law_hz = steps.law.partials_hz(min(16, len(steps.offset_hz)))
    n = min(len(steps.spectrum_db), int((law_hz[-1] + steps.law.f0_hz) / steps.bin_hz))
    axis.plot(np.arange(n) * steps.bin_hz / 1000, steps.spectrum_db[:n], color=_MEASURED, linewidth=0.6)
    axis.plot(law_hz / 1000, np.full(len(law_hz), -8.0), "|", color=_PREDICTED, markersize=9, label="the law")
    axis.set_ylim(-14, None)


def _cents(axis: Any, steps: Steps) -> None:
    k = np.arange(1, len(steps.offset_hz) + 1)
    law_hz = steps.law.partials_hz(len(k))
    axis.axhline(0, color=_FAINT, linewidth=_LINE)
    axis.plot(
        k, -1200 * np.log2(law_hz / (k * steps.law.f0_hz)), ":", color=_HELD_OUT, label="k f0, a string not stiff"
    )
    at_peak = 1200 * np.log2(steps.peak_hz / law_hz[steps.peak_k - 1])
    axis.plot(steps.peak_k, at_peak, "o", color=_MEASURED, markersize=3.5, label="peaks of the spectrum")
    used = 1200 * np.log2(1 + steps.offset_hz / law_hz)
    axis.plot(k, used, "x", color=_PREDICTED, markersize=5, label="by the phases' drift: taken")
    reach = 1.2 * max(4.0, *np.abs(used), *np.quantile(np.abs(at_peak), [0.9]))
    axis.set_ylim(-reach, reach)


def _levels(axis: Any, steps: Steps) -> None:
    shown = _shown(steps)
    for index, colour in zip(shown, _colours(len(shown)), strict=True):
        axis.plot(steps.time_s, steps.level_db[steps.layer, index], color=colour, linewidth=0.9, label=f"{index + 1}")
    _over_time(axis, steps)


def _heard(axis: Any, steps: Steps) -> None:
    level_db = np.where(steps.heard[steps.layer], steps.level_db[steps.layer], np.nan)
    axis.set_facecolor("#dddddd")
    rows = np.arange(1, len(level_db) + 1)
    drawn = axis.pcolormesh(steps.time_s, rows, level_db, cmap="magma", shading="nearest")
    axis.figure.colorbar(drawn, ax=axis, pad=0.01).ax.tick_params(labelsize=7)
    axis.set_xscale("symlog", linthresh=0.1)


def _residual(axis: Any, steps: Steps) -> None:
    n = min(len(steps.residual), round(0.1 * steps.rate_hz))
    time_ms = np.arange(n) / steps.rate_hz * 1000
    note = steps.high_passed[steps.onset :][:n]
    axis.plot(time_ms[: len(note)], note, color=_FAINT, linewidth=0.8, label="the note")
    axis.plot(time_ms, steps.residual[:n], color=_MEASURED, linewidth=0.7, label="left by the partials")
    n_knock = min(n, len(steps.knock))
    axis.plot(time_ms[:n_knock], steps.knock[:n_knock], color=_PREDICTED, linewidth=0.8, label="knock of the model")
    reach = 1.3 * float(np.abs(steps.residual[:n]).max())
    axis.set_ylim(-reach, reach)


def _separation(axis: Any, steps: Steps) -> None:
    index = _middle(steps) - 1
    for layer, velocity in enumerate(steps.velocities):
        less = steps.level_db[layer, index] - steps.gain_db[index, round(velocity)]
        axis.plot(steps.time_s, np.where(steps.heard[layer, index], less, np.nan), color=_FAINT, linewidth=0.7)
    known = np.where(steps.separated.envelope_weight[index, 0] > 0, steps.separated.envelope_db[index, 0], np.nan)
    axis.plot(steps.time_s, known, color=_MEASURED, linewidth=1.5, label="their mean, E(t)")
    axis.plot(steps.time_s, steps.envelope_db[index], "--", color=_PREDICTED, linewidth=_LINE, label="E(t), network")
    _over_time(axis, steps, low=float(np.nanmin(known)) - 10 if np.isfinite(known).any() else None)


def _gains(axis: Any, steps: Steps) -> None:
    # With the network's E taken off, and each layer's frames counted as the training counts them.
    counted = weights(steps.level_db[None], steps.heard[None])[0]
    shown = _shown(steps)[::2]
    for index, colour in zip(shown, _colours(len(shown)), strict=True):
        axis.plot(
            np.arange(1, 128), steps.gain_db[index, 1:], color=colour, linewidth=_LINE, label=f"partial {index + 1}"
        )
        for layer, velocity in enumerate(steps.velocities):
            weight = counted[layer, index]
            if not weight.any():
                continue
            found = np.average(steps.level_db[layer, index] - steps.envelope_db[index], weights=weight)
            filled = "none" if layer in steps.held_out else colour
            axis.plot(velocity, found, "o", markeredgecolor=colour, markerfacecolor=filled, markersize=5)


def _predicted(axis: Any, steps: Steps) -> None:
    velocity = round(steps.velocities[steps.layer])
    shown = _shown(steps)
    for index, colour in zip(shown, _colours(len(shown)), strict=True):
        measured = np.where(steps.heard[steps.layer, index], steps.level_db[steps.layer, index], np.nan)
        axis.plot(steps.time_s, measured, color=colour, linewidth=0.9)
        axis.plot(steps.time_s, steps.envelope_db[index] + steps.gain_db[index, velocity], "--", color=colour)
    axis.plot([], [], color=_MEASURED, label="measured, where heard")
    axis.plot([], [], "--", color=_MEASURED, label="networks: E + G")
    _over_time(axis, steps)


def _over_time(axis: Any, steps: Steps, low: float | None = None) -> None:
    """The early part as wide as the late one; not deeper than what can be heard."""
    axis.set_xscale("symlog", linthresh=0.1)
    axis.set_xlim(0, steps.time_s[-1])
    peak_db = float(steps.level_db[steps.layer].max())
    axis.set_ylim(peak_db - 90 if low is None else low, None if low is not None else peak_db + 5)


def _bands(axis: Any, steps: Steps, time_s: Any, measured_db: Any, predicted_db: Any) -> None:
    for wanted_hz, colour in zip(BANDS_HZ, _colours(len(BANDS_HZ)), strict=True):
        band = int(np.abs(steps.bands_hz - wanted_hz).argmin())
        axis.plot(time_s, measured_db[band], color=colour, linewidth=0.9, label=f"{steps.bands_hz[band]:.0f} Hz")
        axis.plot(time_s, predicted_db[band], "--", color=colour, linewidth=_LINE)


def _noise(axis: Any, steps: Steps) -> None:
    _bands(axis, steps, steps.noise_s, steps.noise_db, steps.predicted_noise_db)
    axis.set_xscale("symlog", linthresh=0.1)


def _release(axis: Any, steps: Steps) -> None:
    if len(steps.release_s):
        _bands(axis, steps, steps.release_s, steps.release_db, steps.predicted_release_db)
        # What is 60 dB below the loudest was not learned: there the networks say anything that is softer.
        axis.set_ylim(float(steps.release_db.max()) - 80, None)
    else:
        axis.text(0.5, 0.5, "none was recorded", ha="center", transform=axis.transAxes, fontsize=8)


def _whole(axis: Any, steps: Steps, recorded: NDArray[np.float32], ours: NDArray[np.float32]) -> None:
    block = steps.rate_hz // 100
    for sound, style, colour, name in (
        (recorded, "-", _MEASURED, "recorded"),
        (ours, "--", _PREDICTED, "rendered, no room"),
    ):
        left = sound[: len(sound) // block * block, 0].reshape(-1, block)
        axis.plot(
            np.arange(len(left)) / 100,
            10 * np.log10((left**2).mean(axis=1) + 1e-12),
            style,
            color=colour,
            linewidth=0.9,
            label=name,
        )
