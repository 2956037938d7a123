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

Result = dict[str, Any]


def conditions() -> Result:
    """When, on what and of what; each scenario and each soak carries them, since they may be played on different days."""
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
    load_after = round(os.getloadavg()[0], 2)
    said = {name: scenario | how | {"load_after": load_after} for name, scenario in played.items()}
    save("faults", load("faults") | said)


def fill(page: str) -> str:
    """The page with its tables written anew.

    Raises:
        KeyError: the page asks for a table that does not exist.
    """
    return _SLOT.sub(lambda match: f"{match.group(1)}{TABLES[match.group(2)]()}{match.group(3)}", page)


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    shown = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in shown])


def _either(values: list[Any]) -> str:
    return ", ".join(map(str, sorted(set(values))))


#: Columns of the faults: what `checker.count` calls them.
_COUNTS = ("jobs", "done", "cancelled", "again", "commits_refused", "lost", "duplicated")
_HEADS = ("jobs", "done", "cancelled", "renders begun again", "commits refused", "lost", "duplicated")


def faults() -> str:
    """A line for each kind of fault, and their sum."""
    kinds: dict[str, list[Result]] = {}
    for name, scenario in sorted(load("faults").items()):
        kinds.setdefault(name.split(" @ ")[0], []).append(scenario)
    rows, total = [], Counter[str]()
    for kind, scenarios in kinds.items():
        sums = Counter({"played": len(scenarios), "passed": sum(each["outcome"] == "passed" for each in scenarios)})
        for each in scenarios:
            sums.update({name: each[name] for name in _COUNTS if name in each})
        total.update(sums)
        rows.append((kind, sums["played"], sums["passed"], *(sums[name] for name in _COUNTS)))
    rows.append(("**all**", total["played"], total["passed"], *(total[name] for name in _COUNTS)))
    return _table(("fault", "scenarios", "passed", *_HEADS), rows)


def faults_conditions() -> str:
    """Of which commit, where, how long the outages were."""
    every = list(load("faults").values())
    loads = [each[name] for each in every for name in ("load_before", "load_after")]
    return (
        f"Played on {_either([each['at'] for each in every])}, commit {_either([each['commit'] for each in every])}, outages of "
        f"{_either([each['outage_s'] for each in every])} s, seed {_either([each['seed'] for each in every])}; "
        f"{_either([each['cores'] for each in every])} cores of {_either([each['cpu'] for each in every])}, "
        f"Python {_either([each['python'] for each in every])}, load average {min(loads)} to {max(loads)}."
    )


def soak() -> str:
    """The counts of the last soak."""
    found = load("soak")
    per_key = [found[f"redis_bytes_a_key_{third}_third"] for third in ("first", "last")]
    troubles = ", ".join(f"{name} {number}" for name, number in found["troubles"].items())
    rows = [
        ("jobs", f"{found['jobs']:,} in {found['took_s']:,.0f} s ({found['renders_per_s']} a second)"),
        ("done, cancelled", f"{found['done']:,}, {found['cancelled']:,}"),
        ("troubles", f"{sum(found['troubles'].values())}: {troubles}"),
        ("renders begun again", f"{found['again']:,} of {found['renders']:,}"),
        ("commits that were not accepted at once", found["commits_refused"]),
        (
            "**lost, duplicated, any other broken promise**",
            f"{found['lost']}, {found['duplicated']}, {found['problems']}",
        ),
        ("compared with an undisturbed run", f"{found['compared']:,}; all {found['done']:,} with the ledger's digest"),
        ("memory of Redis", f"{found['redis_mb_peak']} MB at most, for {found['redis_keys_peak']:,} keys"),
        ("bytes of it a key, first and last third", f"{per_key[0]:,} and {per_key[1]:,}"),
        (
            "played",
            f"{found['at']}, commit {found['commit']}, seed {found['seed']}, load average {found['load_before']}",
        ),
        ("", f"to {found['load_after']} on {found['cores']} cores of {found['cpu']}, Python {found['python']}"),
    ]
    return _table(("", ""), rows)


TABLES = {"faults": faults, "faults-conditions": faults_conditions, "soak": soak}
