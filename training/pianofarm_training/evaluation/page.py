"""Saved figures as Markdown: tables by name, written into docs/quality.md and into a model's card. Measures nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pianofarm_training.evaluation.figures import Figures, mean, pooled_f1
from pianofarm_training.evaluation.musts import must_table, of_quality, of_speed, table
from pianofarm_training.evaluation.notes import RANGES_S

Saved = dict[str, Any]

#: A table in the page: everything between the two comments is written by `fill`.
_SLOT = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_RANGES = " / ".join(f"{1000 * low:.0f}-{1000 * high:.0f}" for low, high in RANGES_S)


def musts(saved: Saved) -> str:
    """The promises about sound."""
    return must_table(of_quality(saved))


def notes(saved: Saved) -> str:
    """Held-out notes of every instrument against the recordings."""
    rows = []
    for name, figures in saved["instruments"].items():
        found = figures["notes"]
        title = "the recorded layer below, as it is" if name == "sampler" else figures["title"]
        rows.append(
            [
                title,
                f"{found['lsd_db']:.2f}",
                f"{found['level_db']:.2f}",
                " / ".join(f"{value:.1f}" for value in found["envelope_db"]),
                f"{100 * found['decay_part']:.1f} %",
                _number(found, "tuning_cents", ".1f"),
                _number(found, "tuning_95_cents", ".1f"),
            ]
        )
    heads = ("", "LSD dB", "level dB", f"bands' envelopes dB, {_RANGES} ms", "T20", "tuning cents, median", "95 %")
    return table(heads, rows)


def keyboard(saved: Saved) -> str:
    """Levels of 88 keys at 16 layers."""
    rows = []
    for figures in saved["instruments"].values():
        found = figures["keyboard"]
        rows.append(
            [
                figures["title"],
                _number(found, "level_db", ".2f"),
                _number(found, "level_95_db", ".2f"),
                f"{100 * found['falling_part']:.1f} %",
                f"{found['unevenness_db']:.2f}",
                f"{found['range_db']:.1f}",
            ]
        )
    heads = ("", "error dB, rms", "95 %", "steps that fall", "key to key dB", "range dB")
    return table(heads, rows)


def passages(saved: Saved) -> str:
    """Passages against the sampler, the mean over five."""
    rows = []
    for name, figures in saved["instruments"].items():
        if name == "sampler":
            continue
        found = figures["passages"]
        formats = (
            *(("lsd_db", ".2f"), ("multi_resolution", ".3f"), ("onset_db", ".2f"), ("onset_95_db", ".2f")),
            *(("visqol", ".2f"), ("zimtohrli", ".4f")),
        )
        rows.append([figures["title"], *(_mean(found, key, form) for key, form in formats)])
    heads = ("", "LSD dB", "multi-resolution", "onset level dB", "95 %", "ViSQOL", "Zimtohrli")
    return table(heads, rows)


def anywhere(saved: Saved) -> str:
    """Figures that do not depend on which piano is played."""
    rows = []
    for figures in saved["instruments"].values():
        found, played = figures["passages"], figures["notes"]
        rows.append(
            [
                figures["title"],
                *(_f1(found, key) for key in ("onset_f1", "offset_f1")),
                _mean(found, "velocity_correlation", ".3f"),
                *(_number(played, key, ".2f") for key in ("onset_ms", "onset_95_ms", "late_ms", "jitter_ms")),
                _number(played, "unevenness_cents", ".1f"),
            ]
        )
    heads = (
        *("", "onset F1", "with offsets", "velocity correlation"),
        *("onset off by ms, mean", "95 %", "late by ms, median", "jitter ms", "tuning uneven, cents"),
    )
    return table(heads, rows)


def pieces(saved: Saved) -> str:
    """The passages, one by one, of the house model."""
    rows = [
        [
            *(row["name"], str(row["notes"])),
            *(f"{row[key]:.2f}" for key in ("lsd_db", "onset_db")),
            *(_number(row, "visqol", ".2f"), _number(row, "onset_f1", ".3f")),
            _number(theirs, "onset_f1", ".3f"),
        ]
        for row, theirs in zip(
            saved["instruments"]["house"]["passages"], saved["instruments"]["sampler"]["passages"], strict=True
        )
    ]
    return table(("passage", "notes", "LSD dB", "onset level dB", "ViSQOL", "onset F1", "the sampler's"), rows)


def setup(saved: Saved) -> str:
    """When, what, and what is missing."""
    rows = [
        ["model", f"{saved['model']}, digest {saved['digest'][:16]}"],
        ["measured at, in", f"{saved['measured_at']}, {saved['took_s']:.0f} s"],
        ["held-out layers", ", ".join(str(layer + 1) for layer in saved["layers"])],
        ["left out", "; ".join(saved["missing"]) or "nothing"],
    ]
    return table(("this run", ""), rows)


#: Tables by name.
TABLES: dict[str, Callable[[Saved], str]] = {
    "musts": musts,
    "notes": notes,
    "keyboard": keyboard,
    "passages": passages,
    "anywhere": anywhere,
    "pieces": pieces,
    "setup": setup,
}


def fill(page: str, saved: Saved) -> str:
    """A page with its tables written anew.

    Raises:
        ValueError: the page asks for a table that does not exist.
    """

    def written(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in TABLES:
            raise ValueError(f"no table {name!r} (there are: {', '.join(TABLES)})")
        return f"{match.group(1)}{TABLES[name](saved)}\n{match.group(3)}"

    return _SLOT.sub(written, page)


def card(saved: Saved, bench: Saved | None = None, picture: str | None = None) -> str:
    """What stands in the model's card.

    Args:
        saved: what was measured of the sound.
        bench: what `make bench` measured, of the model's speed; None: nothing is said of it.
        picture: where the picture of `evaluation.picture` lies, seen from the card; None: there is none of this model.
    """
    speed = ""
    if bench is not None:
        cpu, date, commit = bench["machine"]["cpu"], bench["measured_at"][:10], bench["machine"]["commit"]
        run = f"{date}, {cpu}, the default model of commit {commit}"
        speed = f"\nBy `make bench` ({run}):\n\n{must_table(of_speed(bench))}\n"
    shown = ""
    if picture is not None:
        shown = f"""
![One passage by the recordings, by this model and by FluidSynth]({picture})

The same passage by the sampler over the recordings, by this model and by FluidSynth with FluidR3, as spectrograms. The picture
lies in the repository, at docs/pictures/{picture.rsplit("/", 1)[-1]}, and does not travel with the model; drawn by
`python -m pianofarm_training.evaluation.picture`.
"""
    partials = saved["partials"]
    weighted = " / ".join(f"{value:.2f}" for value in partials["envelope_db"])
    return f"""By `make evaluate` ({saved["measured_at"][:10]}); what is measured, and the same for other instruments, is in
docs/quality.md of the repository. Layers {", ".join(str(layer + 1) for layer in saved["layers"])} were held out from training.

{musts(saved)}

Weighted by loudness as in training, the partials' levels are {weighted} dB off ({_RANGES} ms).

{notes(saved)}
{shown}{speed}"""


def _number(found: Figures, key: str, form: str) -> str:
    return format(found[key], form) if key in found else ""


def _mean(rows: list[Figures], key: str, form: str) -> str:
    value = mean(rows, key)
    return "" if value is None else format(value, form)


def _f1(rows: list[Figures], key: str) -> str:
    value = pooled_f1(rows, key)
    return "" if value is None else f"{value:.4f}"
