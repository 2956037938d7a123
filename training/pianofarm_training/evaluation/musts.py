"""What the house model must reach, and whether it does: one row a promise, from saved figures. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pianofarm_training.evaluation.figures import mean, pooled_f1
from pianofarm_training.evaluation.notes import RANGES_S

Saved = dict[str, Any]


@dataclass(frozen=True)
class Must:
    """A promise and its figure."""

    what: str
    bound: float
    figure: float | None  #: None: not measured
    unit: str = ""
    at_least: bool = False  #: the figure must reach the bound rather than stay below it

    @property
    def held(self) -> bool | None:
        """Whether the promise is kept; None where nobody knows."""
        if self.figure is None:
            return None
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "held", False: "MISSED", None: "not measured"}[self.held]


def of_quality(saved: Saved) -> list[Must]:
    """The promises about sound.

    Args:
        saved: what `pianofarm_training.evaluate` wrote.
    """
    partials, instruments = saved["partials"], saved["instruments"]
    house, sampler = instruments["house"], instruments["sampler"]
    notes, rows = house["notes"], house["passages"]
    level_db = (notes["level_db"] ** 2 + notes["gain_db"] ** 2) ** 0.5
    ours_f1, theirs_f1 = pooled_f1(rows, "onset_f1"), pooled_f1(sampler["passages"], "onset_f1")
    behind = None if ours_f1 is None or theirs_f1 is None else theirs_f1 - ours_f1
    return [
        Must("held-out layers: level of rendered notes, rms", 0.8, level_db, "dB"),
        *(
            Must(
                f"held-out layers: partials down to -80 dB, {1000 * low:.0f}-{1000 * high:.0f} ms, rms",
                bound,
                figure,
                "dB",
            )
            for (low, high), bound, figure in zip(
                RANGES_S, (2.3, 2.4, 2.8), partials["envelope_unweighted_db"], strict=True
            )
        ),
        Must(
            "held-out layers: decay time T20 of the partials' sum, median error", 6.0, 100 * partials["decay_part"], "%"
        ),
        Must("held-out layers: log-spectral distance of rendered notes", 7.2, notes["lsd_db"], "dB"),
        Must("passages: log-spectral distance", 6.3, mean(rows, "lsd_db"), "dB"),
        Must("passages: level after onsets, mean error", 0.6, mean(rows, "onset_db"), "dB"),
        Must("onset timing, mean error", 1.0, notes["onset_ms"], "ms"),
        Must("onset F1 of a transcription, below the sampler's", 0.01, behind),
    ]


def of_speed(bench: Saved) -> list[Must]:
    """The promises about speed and size.

    Args:
        bench: what `make bench` wrote, bench/results/full.json.
    """
    results = bench["results"]

    def rtf(name: str) -> float | None:
        found = results.get(name, {})
        return float(found["real_time_factor"]["median"]) if "real_time_factor" in found else None

    mono, stereo, fluid = rtf("house/1"), rtf("house/2"), rtf("fluidsynth/dense")
    ratio = None if stereo is None or fluid is None else stereo / fluid
    house = results.get("house/2", {})
    load = results.get("cold/house", {}).get("load_s", {})
    size_mb = house["model_bytes"] / 1e6 if "model_bytes" in house else None
    return [
        Must("dense piece on one core, mono", 200, mono, "x real time", at_least=True),
        Must("dense piece on one core, stereo", 120, stereo, "x real time", at_least=True),
        Must("stereo against FluidSynth with FluidR3 in the same run", 4, ratio, "x", at_least=True),
        Must("size of the model", 10, size_mb, "MB"),
        Must("loading after imports, in `pianofarm render`", 0.5, load.get("median"), "s"),
    ]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def beside(figure: float, bound: float) -> str:
    """A figure in three digits, or in as many as tell it from its bound: 2.299 is not 2.3."""
    texts = [f"{figure:.{n_digits}g}" for n_digits in range(3, 8)]
    return next((text for text in texts if float(text) != bound), texts[0])


def must_table(musts: Sequence[Must]) -> str:
    """Promises, figures, verdicts."""
    rows = [
        [
            must.what,
            f"{'>=' if must.at_least else '<='} {must.bound:g} {must.unit}".strip(),
            "" if must.figure is None else f"{beside(must.figure, must.bound)} {must.unit}".strip(),
            must.verdict,
        ]
        for must in musts
    ]
    return table(("must", "bound", "measured", ""), rows)
