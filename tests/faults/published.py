"""What `make faults` and `make soak` found, as JSON beside this file, and the tables of docs/reliability.md made from it. Plays nothing."""

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
PAGE = REPOSITORY / "docs" / "reliability.md"

#: A table in the page: everything between the two comments is written by `fill`.
_SLOT = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)

#: Columns of the faults: what `checker.count` calls them, and what the page does.
_COUNTS = {
    "jobs": "jobs",
    "done": "done",
    "cancelled": "cancelled",
    "again": "renders begun again",
    "commits_refused": "commits refused",
    "lost": "lost",
    "duplicated": "duplicated",
    "problems": "any broken promise",
}

Result = dict[str, Any]


def conditions() -> Result:
    """When, on what and of what."""
    sys.path.insert(0, str(REPOSITORY))
    from bench.machine import describe

    machine = describe()
    names = ("commit", "cpu", "cores", "python", "load_before")
    return {"at": time.strftime("%Y-%m-%d", time.gmtime())} | {name: machine[name] for name in names}


def load(name: str) -> Result:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def save(name: str, result: Result) -> None:
    """Write the result and the tables of the page."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(fill(PAGE.read_text()))


def save_scenarios(played: dict[str, Result], how: Result) -> None:
    """Add scenarios to those played before: what was played again takes the place of what it was."""
    before, commit = load("faults"), how["commit"]
    scenarios = before.get("scenarios", {}) | {name: each | {"commit": commit} for name, each in played.items()}
    runs = before.get("runs", {}) | {commit: how | {"load_after": round(os.getloadavg()[0], 2)}}
    used = {each["commit"] for each in scenarios.values()}
    save("faults", {"runs": {name: run for name, run in runs.items() if name in used}, "scenarios": scenarios})


def fill(page: str) -> str:
    """The page with its tables written anew.

    Raises:
        KeyError: the page asks for a table that does not exist.
    """
    return _SLOT.sub(lambda match: f"{match.group(1)}{TABLES[match.group(2)]()}{match.group(3)}", page)


def faults() -> str:
    """A line for each kind of fault, and their sum."""
    kinds: dict[str, Counter[str]] = {}
    for name, scenario in sorted(load("faults")["scenarios"].items()):
        counted = {count: scenario.get(count, 0) for count in _COUNTS}
        counted |= {"played": 1, "passed": int(scenario["outcome"] == "passed")}
        kinds.setdefault(name.split(" @ ")[0], Counter()).update(counted)
    total = Counter[str]()
    for sums in kinds.values():
        total.update(sums)
    names = ("played", "passed", *_COUNTS)
    rows = [(kind, *(sums[name] for name in names)) for kind, sums in kinds.items()]
    return _table(
        ("fault", "points", "passed", *_COUNTS.values()), [*rows, ("**all**", *(total[name] for name in names))]
    )


def faults_conditions() -> str:
    """Of which commit, when and on what."""
    found = load("faults")
    lines = []
    for run in found["runs"].values():
        n_played = sum(each["commit"] == run["commit"] for each in found["scenarios"].values())
        lines.append(f"{n_played} scenarios: {_conditions(run)}.")
    return "\n".join(lines)


def soak() -> str:
    """The counts of the last soak."""
    found = load("soak")
    per_key = [found[f"redis_bytes_a_key_{third}_third"] for third in ("first", "last")]
    troubles = ", ".join(f"{name} {number}" for name, number in found["troubles"].items())
    broken = f"{found['lost']}, {found['duplicated']}, {found['problems']}"
    rows = [
        ("jobs", f"{found['jobs']:,} in {found['took_s']:,.0f} s ({found['renders_per_s']} a second)"),
        ("done, cancelled", f"{found['done']:,}, {found['cancelled']:,}"),
        ("troubles", f"{sum(found['troubles'].values())}: {troubles}"),
        ("renders begun again", f"{found['again']:,} of {found['renders']:,}"),
        ("commits refused", f"{found['commits_refused']:,}, for a lost lease or a cancellation"),
        ("commits that Redis did not answer at once", f"{found['commits_unanswered']:,}"),
        ("**lost, duplicated, any broken promise**", broken),
        ("compared with an undisturbed run", f"{found['compared']:,}; all {found['done']:,} with the ledger's digest"),
        ("memory of Redis", f"{found['redis_mb_peak']} MB at most, for {found['redis_keys_peak']:,} keys"),
        ("bytes of it a key, first and last third", f"{per_key[0]:,} and {per_key[1]:,}"),
        ("played", _conditions(found)),
    ]
    return _table(("", ""), rows)


def _conditions(run: Result) -> str:
    return (
        f"{run['at']}, commit {run['commit']}, seed {run['seed']}, {run['cores']} cores of {run['cpu']}, "
        f"Python {run['python']}, load average {run['load_before']} to {run['load_after']}"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    shown = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in shown])


TABLES = {"faults": faults, "faults-conditions": faults_conditions, "soak": soak}
