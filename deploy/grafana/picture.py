"""Draws the dashboards from a Prometheus, panel by panel, for the documentation: where there is no Grafana to take a picture of.

`python deploy/grafana/picture.py --prometheus http://127.0.0.1:9090 --minutes 5 --out docs/pictures`
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "dashboards"

#: Grafana's default colours, roughly.
COLOURS = ("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0")

#: Inches for a cell of Grafana's grid.
CELL_X, CELL_Y = 0.62, 0.42


def ask(prometheus: str, query: str, begin_s: float, end_s: float) -> list[dict[str, Any]]:
    """The series of a query, at most 300 points each."""
    step_s = max(1, math.ceil((end_s - begin_s) / 300))
    query = query.replace("$__rate_interval", f"{max(15, 4 * step_s)}s")
    arguments = urllib.parse.urlencode({"query": query, "start": begin_s, "end": end_s, "step": step_s})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{arguments}", timeout=30) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def label_of(legend: str, metric: dict[str, str]) -> str:
    """A legend with its {{labels}} filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: metric.get(match.group(1), ""), legend).strip()


def shown(value: float, unit: str) -> str:
    """A number with its unit."""
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB"
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def draw(dashboard: dict[str, Any], prometheus: str, begin_s: float, end_s: float, path: Path) -> None:
    """One dashboard as one picture."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(24 * CELL_X, height * CELL_Y + 0.5))
    figure.suptitle(dashboard["title"], x=0.01, ha="left", fontsize=14)
    top = 0.5 / (height * CELL_Y + 0.5)
    for panel in panels:
        place = panel["gridPos"]
        left, width = (place["x"] + 0.9) / 24, (place["w"] - 1.3) / 24
        bottom = (1 - (place["y"] + place["h"] - 1.2) / height) * (1 - top)
        axes = figure.add_axes((left, bottom, width, (place["h"] - 2.2) / height * (1 - top)))
        axes.set_title(panel["title"], fontsize=9, loc="left")
        unit = panel["fieldConfig"]["defaults"]["unit"]
        lines = [
            (label_of(target["legendFormat"], series["metric"]), series["values"])
            for target in panel["targets"]
            for series in ask(prometheus, target["expr"], begin_s, end_s)
        ]
        if panel["type"] == "stat":
            axes.axis("off")
            texts = [
                f"{shown(float(values[-1][1]), unit)}{'' if len(lines) == 1 else ' ' + name}" for name, values in lines
            ]
            axes.text(0.0, 0.35, "\n".join(texts) or "none", fontsize=17 if len(texts) < 2 else 11, va="center")
            continue
        for number, (name, values) in enumerate(lines):
            minutes = [(float(moment) - begin_s) / 60 for moment, _ in values]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(minutes, [float(value) for _, value in values], color=colour, linewidth=1.1, label=name)
        axes.set_xlim(0, (end_s - begin_s) / 60)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _, unit=unit: shown(value, unit))
        axes.tick_params(labelsize=6)
        axes.grid(alpha=0.3)
        if lines:
            axes.legend(fontsize=6, loc="upper left", framealpha=0.6, ncols=2)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Draw all dashboards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=5.0, help="how far back")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    end_s = time.time()
    for path in sorted(FOLDER.glob("*.json")):
        picture = arguments.out / f"dashboard-{path.stem}.png"
        draw(json.loads(path.read_text()), arguments.prometheus, end_s - 60 * arguments.minutes, end_s, picture)
        print(picture)


if __name__ == "__main__":
    main()
