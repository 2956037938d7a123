"""`python -m bench`: measure everything and save it. `python -m bench report`: write the tables of docs/benchmarks.md from it."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import fnmatch
import json
import sys
import time
from pathlib import Path

from bench import fresh, machine, plan, report
from bench.fresh import Measured
from pianofarm_common.models import DEFAULT_MODEL


def main() -> int:
    """Exit code 0: all was measured or skipped with a reason; 1: something failed; 2: the request is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "report"), default="run")
    parser.add_argument("--short", action="store_true", help="short pieces, one repeat: does it work, roughly how fast")
    parser.add_argument("--name", help="of the result files; default: the form (full or short)")
    parser.add_argument("--only", action="append", help="measurements of this name, '*' for anything; repeatable")
    parser.add_argument("--cores", help="the cores to use, for example 0,1; default: the first two at hand")
    parser.add_argument("--repeats", type=int, help="instead of the form's")
    parser.add_argument("--piece-s", type=float, help="length of the dense piece instead of the form's")
    parser.add_argument(
        "--out", type=Path, help=f"folder of the results; default: {report.RESULTS}, short: .state/bench"
    )
    arguments = parser.parse_args()
    if arguments.what == "report":
        return _write_page(arguments.name)
    form = plan.SHORT if arguments.short else plan.FULL
    given = {"repeats": arguments.repeats, "round_repeats": arguments.repeats, "piece_s": arguments.piece_s}
    form = dataclasses.replace(form, **{name: value for name, value in given.items() if value is not None})
    if form.repeats < 1 or form.piece_s < 4:
        sys.stderr.write("--repeats must be at least 1, --piece-s at least 4\n")
        return 2
    cores = [int(core) for core in arguments.cores.split(",")] if arguments.cores else fresh.cores()
    if missing := [core for core in cores if core not in fresh.cores()]:
        sys.stderr.write(f"--cores {arguments.cores}: {missing} cannot be used (at hand: {fresh.cores()})\n")
        return 2
    out = arguments.out or (Path(".state/bench") if arguments.short else report.RESULTS)
    return _measure(form, cores, arguments.only, out, arguments.name or form.name)


def _measure(form: plan.Form, cores: list[int], only: list[str] | None, out: Path, name: str) -> int:
    began = time.monotonic()
    saved: Measured = {
        "name": name,
        "form": dataclasses.asdict(form),
        "command": "python -m bench" + (" --short" if form.name == "short" else ""),
        "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "default_model": DEFAULT_MODEL,
    }

    def wanted(what: str) -> bool:
        return only is None or any(fnmatch.fnmatch(what, pattern) for pattern in only)

    def tell(what: str, measured: Measured) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}: {report.one_line(measured)}", flush=True)
        if "where" in measured:
            sys.stderr.write(measured["where"])

    saved["results"] = plan.run(form, cores, wanted, tell)
    saved["took_s"] = round(time.monotonic() - began, 1)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
    text = report.whole(saved)
    (out / f"{name}.md").write_text(text)
    print(f"\n{text}\n{out / name}.json and .md written in {saved['took_s']:g} s")
    return 1 if any("failed" in measured for measured in saved["results"].values()) else 0


def _write_page(name: str | None) -> int:
    try:
        report.write_page(name or plan.FULL.name)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{error} (measure first: python -m bench)\n")
        return 2
    print(report.PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
