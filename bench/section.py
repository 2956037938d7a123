"""The part of a page that a measurement writes: what stands between two marks, and the machine in words. Measures nothing."""

from __future__ import annotations

import time
from pathlib import Path

from bench import machine

START, END = "<!-- measured: start -->\n", "<!-- measured: end -->\n"


def write(page: Path, text: str) -> None:
    """Put text between the marks of a page, in place of what stands there.

    Raises:
        ValueError: the page has not one of each mark.
    """
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    page.write_text(before + START + text + END + after)


def measured_on() -> str:
    """Markdown: the machine, the versions and the commit, and when."""
    about = machine.describe()
    rows = {
        "processor": about["cpu"],
        "cores, memory": f"{about['cores']}, {about['memory_gb']:g} GB",
        "system, Python": f"{about['system']}, {about['python']}",
        "packages": ", ".join(f"{name} {version}" for name, version in about["packages"].items()),
        "commit ('+': changed since)": about["commit"],
        "measured at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load average before": f"{about['load_before']:g}",
    }
    return "| measured on | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
