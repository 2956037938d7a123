"""Saved measurements as Markdown: tables by name, a whole report, and the tables inside docs/benchmarks.md. Measures nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.fresh import Measured
from bench.tables import TABLES

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
PAGE = REPOSITORY / "docs" / "benchmarks.md"

#: A table in the page: everything between the two comments is written by `fill`.
_SLOT = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def whole(saved: Measured) -> str:
    """Every table, with headings."""
    parts = [f"# Benchmark run {saved['name']}"]
    parts += [f"## {name.capitalize()}\n\n{make(saved)}" for name, make in TABLES.items()]
    return "\n\n".join(parts) + "\n"


def fill(page: str, saved: Measured) -> str:
    """The page with its tables written anew.

    Raises:
        ValueError: the page asks for a table that does not exist.
    """

    def table(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in TABLES:
            raise ValueError(f"no table {name!r} (there are: {', '.join(TABLES)})")
        return f"{match.group(1)}{TABLES[name](saved)}{match.group(3)}"

    return _SLOT.sub(table, page)


def load(name: str) -> Measured:
    """Saved measurements by name."""
    saved: Measured = json.loads((RESULTS / f"{name}.json").read_text())
    return saved


def write_page(name: str) -> None:
    """Write the tables of the page from saved measurements."""
    PAGE.write_text(fill(PAGE.read_text(), load(name)))


def one_line(measured: Measured) -> str:
    """The headline of one measurement, for the terminal."""
    for key in ("skipped", "failed"):
        if key in measured:
            return f"{key}: {measured[key]}"
    shown: list[str] = []
    for key, value in measured.items():
        if isinstance(value, dict) and "median" in value:
            shown.append(f"{key} {value['median']:.4g}")
        elif isinstance(value, float):
            shown.append(f"{key} {value:.4g}")
    return ", ".join(shown[:5]) or _first(measured)


def _first(measured: dict[str, Any]) -> str:
    return ", ".join(f"{key} {str(value)[:40]}" for key, value in list(measured.items())[:2])
